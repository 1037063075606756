import AegisIO
import LinuxSys

/// An agent of another maker in a Python process: it works through one conversation for each line that it gets.
final class PeerProcess: Sendable {
    let title: String
    let startCPU: Double
    private let process: ChildProcess
    var pid: Int32 { process.pid }

    private init(_ title: String, _ process: ChildProcess) {
        self.title = title
        self.process = process
        startCPU = ProcessView(pid: process.pid).cpuTime
    }

    /// Those whose packages are there.
    static func all(port: UInt16, on loop: EventLoop) async throws -> [PeerProcess] {
        guard let python = interpreter else {
            note("other makers' agents are left out: run scripts/setup bench")
            return []
        }
        var peers: [PeerProcess] = []
        for word in ["langgraph", "langgraph-sqlite", "openai-agents"] {
            let process = try ChildProcess.spawn(
                ProcessSpec(
                    executable: python, arguments: [python, "-c", program, word, "\(port)", "\(AgentsBench.steps)"],
                    environment: ["PATH=/usr/bin:/bin", "OPENAI_API_KEY=none", "HOME=/nonexistent"], stdin: .pipe,
                    stdout: .pipe, stderr: .inherit, parentDeathSignal: 15), on: loop)
            // Its first line is its name, once everything is imported.
            let title = try await readLine(process)
            if title.isEmpty {
                note("\(word) is left out: it cannot be imported")
            } else {
                peers.append(PeerProcess(title, process))
            }
        }
        return peers
    }

    /// The environment that `scripts/setup bench` makes.
    private static var interpreter: String? {
        let folder = CurrentProcess.environment("AEGIS_BENCH_PEERS") ?? ".build/bench-peers"
        let path = "\(folder)/bin/python"
        return Files.exists(path) ? path : nil
    }

    /// One conversation.
    ///
    /// - Returns: milliseconds, as the process itself has measured them.
    func work() async throws -> Double {
        try await process.stdin?.write(Array("go\n".utf8)[...])
        let line = try await readLine(process)
        guard let value = Double(line) else { throw Runner.Failure(description: "\(title) said '\(line)'") }
        return value
    }

    func stop() async { await process.teardown([.signal(15, allow: .seconds(5))]) }

    private static let program = """
        import asyncio, sys, time
        word, port, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
        url = f"http://127.0.0.1:{port}/v1"
        from importlib.metadata import version
        loop = asyncio.new_event_loop()
        if word.startswith("langgraph"):
            from langchain_core.tools import tool
            from langchain_openai import ChatOpenAI
            from langgraph.graph import START, MessagesState, StateGraph
            from langgraph.prebuilt import ToolNode, tools_condition
            @tool
            async def echo(message: str) -> str:
                "Returns its input unchanged."
                return message
            model = ChatOpenAI(model="scripted", base_url=url, api_key="none").bind_tools([echo])
            async def think(state): return {"messages": [await model.ainvoke(state["messages"])]}
            graph = StateGraph(MessagesState)
            graph.add_node("model", think)
            graph.add_node("tools", ToolNode([echo]))
            graph.add_edge(START, "model")
            graph.add_conditional_edges("model", tools_condition)
            graph.add_edge("tools", "model")
            saver, title = None, f"LangGraph {version('langgraph')}"
            if word == "langgraph-sqlite":
                import os, tempfile, aiosqlite
                from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
                file = tempfile.NamedTemporaryFile(suffix=".db", dir="/var/tmp")
                async def connect(): return AsyncSqliteSaver(await aiosqlite.connect(file.name))
                saver = loop.run_until_complete(connect())
                title += ", saved by its SQLite checkpointer"
            app = graph.compile(checkpointer=saver)
            number = 0
            async def work():
                global number
                number += 1
                config = {"recursion_limit": 4 * steps, "configurable": {"thread_id": str(number)}}
                out = await app.ainvoke({"messages": [("system", "You are a test."), ("user", "go")]}, config)
                return out["messages"][-1].content, sum(m.type == "tool" for m in out["messages"])
        else:
            import agents
            from openai import AsyncOpenAI
            agents.set_tracing_disabled(True)
            @agents.function_tool
            async def echo(message: str) -> str:
                "Returns its input unchanged."
                return message
            model = agents.OpenAIChatCompletionsModel("scripted", AsyncOpenAI(base_url=url, api_key="none"))
            agent = agents.Agent(name="worker", instructions="You are a test.", tools=[echo], model=model)
            title = f"OpenAI Agents SDK {version('openai-agents')}"
            async def work():
                out = await agents.Runner.run(agent, "go", max_turns=2 * steps)
                return out.final_output, sum(i.type == "tool_call_output_item" for i in out.new_items)
        print(title, flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            answer, calls = loop.run_until_complete(work())
            elapsed = (time.perf_counter() - start) * 1000
            assert answer == "done" and calls == steps, (answer, calls)
            print(elapsed, flush=True)
        """
}
