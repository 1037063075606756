import AegisChannel
import Glibc
import Testing

@Suite struct TerminalTests {
    @Test func aTerminalIsControllingAndHasItsSize() throws {
        let harness = try HostHarness()
        try harness.client.start(
            1, ["sh", "-c", "stty size; tty; ps -o tty= -p $$; test -t 2 && echo err"], terminal: true, columns: 123,
            rows: 45)
        let process = try harness.client.finish(1)
        let lines = process.out.split(separator: "\r\n").map(String.init)
        #expect(lines.first == "45 123")
        #expect(lines.dropFirst().first?.hasPrefix("/dev/pts/") == true)
        #expect(lines.dropFirst(2).first?.hasPrefix("pts/") == true)
        #expect(lines.last == "err")
        #expect(process.stderr.isEmpty)
        #expect(process.exited?.code == 0)
        #expect(process.exited?.stdoutBytes == UInt64(process.stdout.count))
    }

    @Test func resizeTellsTheProcess() throws {
        let harness = try HostHarness()
        let script = "trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done"
        try harness.client.start(1, ["sh", "-c", script], terminal: true)
        try harness.client.wait("ready") { $0.processes[1]?.out == "ready\r\n" }
        try harness.client.send(.resize, stream: 1, TerminalSize(columns: 100, rows: 30).encoded())
        let process = try harness.client.finish(1)
        #expect(process.out.hasSuffix("30 100\r\n"))
        #expect(process.exited?.code == 4)
    }

    @Test func interruptIsACharacter() throws {
        let harness = try HostHarness()
        try harness.client.start(1, ["sh", "-c", "echo ready; exec sleep 300"], terminal: true, stdin: true)
        try harness.client.wait("ready") { $0.processes[1]?.out == "ready\r\n" }
        try harness.client.input(1, [3])
        #expect(try harness.client.finish(1).exited?.signal == UInt8(SIGINT))
    }

    @Test(arguments: ["", "one\n", "no newline"])
    func endOfInputIsEndOfFile(text: String) throws {
        let harness = try HostHarness()
        // Without echo what comes back is what cat has read.
        try harness.client.start(1, ["sh", "-c", "stty -echo; echo ready; cat"], terminal: true, stdin: true)
        try harness.client.wait("ready") { $0.processes[1]?.out == "ready\r\n" }
        try harness.client.input(1, Array(text.utf8), end: true)
        let process = try harness.client.finish(1)
        let crlf = text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")
        #expect(process.out == "ready\r\n" + crlf)
        #expect(process.exited?.code == 0)
    }

    @Test func theLastOutputOfATerminalIsNotLost() throws {
        let harness = try HostHarness()
        for number in 1...20 as ClosedRange<UInt16> {
            try harness.client.start(number, ["sh", "-c", "seq 1 3000; exit 6"], terminal: true)
            let process = try harness.client.finish(number)
            #expect(process.out.hasSuffix("\r\n3000\r\n"))
            #expect(process.exited?.code == 6)
        }
    }

    @Test func theTerminalBelongsToItsUser() throws {
        let harness = try HostHarness()
        try harness.client.start(
            1, ["sh", "-c", "stat -c %u $(tty); : > $(tty) && echo opened"], user: "4321", terminal: true)
        #expect(try harness.client.finish(1).out == "4321\r\nopened\r\n")
    }
}
