import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import Testing

@testable import AegisWire

/// The answer to one line, where methods `echo` (gives its parameters back) and `fail` end at once.
private func answer(_ line: String, limits: JSONRPCLimits = JSONRPCLimits()) -> String? {
    var machine = JSONRPCMachine(limits: limits)
    var sent = machine.received(JSONRPCMessage(line: Array(line.utf8)[...], batchLimit: limits.batch))
    while let job = machine.start() {
        let outcome: Result<JSONValue, JSONRPCFault> =
            switch job.request.method {
            case "echo": .success(job.request.params)
            case "fail": .failure(JSONRPCFault(AegisError(.conflict, "in-use", "it is in use", hint: "wait")))
            default: .failure(.unknownMethod(job.request.method, known: ["echo", "fail"]))
            }
        sent = sent ?? machine.finished(job.ticket, outcome)
    }
    if let sent { machine.sent(sent.count) }
    #expect(machine.isIdle && machine.wantsInput)
    return sent.map { String(decoding: $0.dropLast(), as: UTF8.self) }
}

@Suite struct JSONRPCMachineTests {
    @Test(arguments: [
        (#"{"jsonrpc":"2.0","method":"echo","params":[1,"a"],"id":1}"#, #"{"jsonrpc":"2.0","id":1,"result":[1,"a"]}"#),
        // Ids come back as they were spelled.
        (#"{"jsonrpc":"2.0","method":"echo","id":1.50e1}"#, #"{"jsonrpc":"2.0","id":1.50e1,"result":null}"#),
        (
            #"{"id":12345678901234567890123,"jsonrpc":"2.0","method":"echo"}"#,
            #"{"jsonrpc":"2.0","id":12345678901234567890123,"result":null}"#
        ),
        (#"{"jsonrpc":"2.0","method":"echo","id":null}"#, #"{"jsonrpc":"2.0","id":null,"result":null}"#),
        (#"{"jsonrpc":"2.0","method":"echo","id":"ä\n"}"#, #"{"jsonrpc":"2.0","id":"ä\n","result":null}"#),
        (
            #"{"jsonrpc":"2.0","method":"echo","params":{"x":{}},"id":0}"#,
            #"{"jsonrpc":"2.0","id":0,"result":{"x":{}}}"#
        ),
        (
            #"{"jsonrpc":"2.0","method":"fail","id":7}"#,
            #"{"jsonrpc":"2.0","id":7,"error":{"code":-32009,"message":"it is in use","data":{"code":"in-use","hint":"wait"}}}"#
        ),
        (
            #"{"jsonrpc":"2.0","method":"ehco","id":"7"}"#,
            #"{"jsonrpc":"2.0","id":"7","error":{"code":-32601,"message":"there is no method 'ehco'","data":{"code":"unknown-method","hint":"did you mean 'echo'?"}}}"#
        ),
        // Notifications have no answer, whatever comes of them.
        (#"{"jsonrpc":"2.0","method":"echo"}"#, nil),
        (#"{"jsonrpc":"2.0","method":"nothing like it"}"#, nil),
        (#"[{"jsonrpc":"2.0","method":"echo"},{"jsonrpc":"2.0","method":"fail"}]"#, nil),
        (
            #"[{"jsonrpc":"2.0","method":"echo","id":2},{"jsonrpc":"2.0","method":"echo"},{"jsonrpc":"2.0","method":"echo","id":1}]"#,
            #"[{"jsonrpc":"2.0","id":2,"result":null},{"jsonrpc":"2.0","id":1,"result":null}]"#
        ),
    ])
    func requestsAreAnswered(line: String, expected: String?) {
        #expect(answer(line) == expected)
    }

    @Test(arguments: [
        ("nonsense", -32700, "null"), ("{", -32700, "null"),
        (#"{"jsonrpc":"2.0","method":"echo","id":1} x"#, -32700, "null"),
        ("\u{7}", -32700, "null"), (#"{"jsonrpc":"2.0","id":1,"id":2,"method":"echo"}"#, -32700, "null"),
        ("[", -32700, "null"), ("[]", -32600, "null"), ("1", -32600, "null"), (#""x""#, -32600, "null"),
        ("null", -32600, "null"), ("{}", -32600, "null"),
        (#"{"jsonrpc":"2.0","method":1,"params":"bar"}"#, -32600, "null"),
        (#"{"method":"echo","id":3}"#, -32600, "3"), (#"{"jsonrpc":"1.0","method":"echo","id":3}"#, -32600, "3"),
        (#"{"jsonrpc":2.0,"method":"echo","id":3}"#, -32600, "3"), (#"{"jsonrpc":"2.0","id":3}"#, -32600, "3"),
        (#"{"jsonrpc":"2.0","method":"echo","id":true}"#, -32600, "null"),
        (#"{"jsonrpc":"2.0","method":"echo","id":[1]}"#, -32600, "null"),
        (#"{"jsonrpc":"2.0","method":"echo","id":{}}"#, -32600, "null"),
        (#"{"jsonrpc":"2.0","method":"echo","params":"x","id":"q"}"#, -32600, #""q""#),
        (#"{"jsonrpc":"2.0","method":"echo","params":null,"id":"q"}"#, -32600, #""q""#),
        (#"{"jsonrpc":"2.0","method":"echo","parms":[],"id":"q"}"#, -32600, #""q""#),
        (#"{"jsonrpc":"2.0","result":1,"id":4}"#, -32600, "4"),
    ])
    func whatIsNoRequestIsRefused(line: String, number: Int, id: String) throws {
        let text = try #require(answer(line))
        let value = try JSONValue(parsing: text.utf8)
        #expect(value["error"]?["code"]?.integer == Int64(number), "\(text)")
        #expect(value["id"].map { String(decoding: $0.compact, as: UTF8.self) } == id)
        #expect(value["error"]?["data"]?["code"]?.text?.isEmpty == false)
    }

    @Test func theStandardsBatchExampleIsAnswered() throws {
        let text = try #require(
            answer(
                #"[{"jsonrpc":"2.0","method":"echo","params":[1,2,4],"id":"1"},{"jsonrpc":"2.0","method":"echo","params":[7]},{"foo":"boo"},1,{"jsonrpc":"2.0","method":"foo.get","params":{"name":"myself"},"id":"5"}]"#
            ))
        let elements = try #require(try JSONValue(parsing: text.utf8).elements)
        #expect(elements.map { $0["id"] } == ["1", .null, .null, "5"])
        #expect(elements.map { $0["error"]?["code"]?.integer } == [nil, -32600, -32600, -32601])
    }

    @Test func aBatchOfRubbishIsOneArray() throws {
        let text = try #require(answer("[1,2,3]"))
        #expect(try JSONValue(parsing: text.utf8).elements?.count == 3)
    }

    @Test func aBatchThatIsTooLargeIsOneError() throws {
        var limits = JSONRPCLimits()
        limits.batch = 2
        let text = try #require(answer("[1,2,3]", limits: limits))
        #expect(text.contains("send at most 2 in one batch"))
    }

    @Test func requestsBeyondTheLimitWaitAndNobodyReads() {
        var limits = JSONRPCLimits()
        limits.inFlight = 2
        var machine = JSONRPCMachine(limits: limits)
        let line =
            "[" + Array(repeating: #"{"jsonrpc":"2.0","method":"m","id":1}"#, count: 5).joined(separator: ",") + "]"
        #expect(machine.received(JSONRPCMessage(line: Array(line.utf8)[...], batchLimit: 9)) == nil)
        let first = [machine.start(), machine.start()].compactMap(\.self)
        #expect(first.count == 2 && machine.start() == nil && !machine.wantsInput)
        var last: [UInt8]?
        var running = first
        while !running.isEmpty {
            last = machine.finished(running.removeFirst().ticket, .success(1))
            if let job = machine.start() { running.append(job) }
            #expect(running.count <= 2)
        }
        #expect(last != nil && machine.wantsInput)
        #expect(!machine.isIdle, "the answer is not sent yet")
    }

    @Test func aClientThatTakesNothingStartsNothing() {
        var limits = JSONRPCLimits()
        limits.unsent = 10
        var machine = JSONRPCMachine(limits: limits)
        let request = JSONRPCMessage(
            line: Array(#"{"jsonrpc":"2.0","method":"m","id":1}"#.utf8)[...], batchLimit: 9)
        _ = machine.received(request)
        let job = machine.start()
        let bytes = job.flatMap { machine.finished($0.ticket, .success("long enough")) } ?? []
        #expect(bytes.count > 10 && !machine.wantsInput)
        _ = machine.received(request)
        #expect(machine.start() == nil)
        machine.sent(bytes.count)
        #expect(machine.start() != nil)
    }

    @Test func aForsakenMachineKeepsNotificationsOnly() {
        var limits = JSONRPCLimits()
        limits.inFlight = 1
        var machine = JSONRPCMachine(limits: limits)
        let call = JSONRPCMessage(line: Array(#"{"jsonrpc":"2.0","method":"a","id":1}"#.utf8)[...], batchLimit: 9)
        let notice = JSONRPCMessage(line: Array(#"{"jsonrpc":"2.0","method":"b"}"#.utf8)[...], batchLimit: 9)
        for message in [call, call, notice] { _ = machine.received(message) }
        let running = machine.start()
        machine.forsake()
        #expect(running.map { machine.finished($0.ticket, .success(1)) } == .some(nil))
        #expect(machine.start()?.request.method == "b")
        _ = machine.received(call)
        #expect(machine.start() == nil)
    }

    @Test func linesAreCutAndLongOnesAreSkipped() {
        var buffer = ByteBuffer()
        var lines = JSONRPCLines(limit: 5)
        buffer.append("ab")
        #expect(lines.next(in: &buffer, ended: false) == nil)
        buffer.append("cde\n\r\n \n123456\nx\n1234567")
        #expect(lines.next(in: &buffer, ended: false) == .line(Array("abcde".utf8)))
        #expect(lines.next(in: &buffer, ended: false) == .tooLong)
        #expect(lines.next(in: &buffer, ended: false) == .line(Array("x".utf8)))
        // Told before its end is there, so that nobody has to send or keep all of it.
        #expect(lines.next(in: &buffer, ended: false) == .tooLong)
        #expect(buffer.isEmpty)
        for _ in 0..<3 {
            buffer.append("more of it")
            #expect(lines.next(in: &buffer, ended: false) == nil && buffer.isEmpty)
        }
        buffer.append("end\nnext\nrest")
        #expect(lines.next(in: &buffer, ended: false) == .line(Array("next".utf8)))
        #expect(lines.next(in: &buffer, ended: false) == nil)
        #expect(lines.next(in: &buffer, ended: true) == .line(Array("rest".utf8)))
        #expect(lines.next(in: &buffer, ended: true) == nil)
    }

    @Test func anyCutOfTheBytesGivesTheSameLines() {
        var mutator = Mutator(seed: 11)
        let bytes = Array("a\n\nlonger line\n{\"x\":1}\r\n123456789012345678901234567890\nlast".utf8)
        for _ in 0..<500 {
            var buffer = ByteBuffer()
            var lines = JSONRPCLines(limit: 20)
            var found: [JSONRPCLines.Line] = []
            for piece in mutator.pieces(of: bytes) {
                buffer.append(piece)
                while let line = lines.next(in: &buffer, ended: false) { found.append(line) }
            }
            while let line = lines.next(in: &buffer, ended: true) { found.append(line) }
            let texts = ["a", "longer line", "{\"x\":1}\r"].map { JSONRPCLines.Line.line(Array($0.utf8)) }
            #expect(found == texts + [.tooLong, .line(Array("last".utf8))])
        }
    }

    @Test func noBytesBreakTheReader() {
        var mutator = Mutator(seed: 12)
        let seeds = [
            #"{"jsonrpc":"2.0","method":"echo","params":{"a":[1,2,{"b":null}]},"id":1}"#, "[1,{}]",
            #"[{"jsonrpc":"2.0","method":"fail","id":"x"},{"jsonrpc":"2.0","method":"echo"}]"#,
        ].map { Array($0.utf8) }
        for _ in 0..<3000 {
            let line = mutator.mutate(mutator.pick(seeds), others: seeds).filter { $0 != 10 }
            guard let text = answer(String(decoding: line, as: UTF8.self)) else { continue }
            #expect(throws: Never.self) { try JSONValue(parsing: text.utf8) }
        }
    }
}

@Suite struct RPCParametersTests {
    private func read(_ text: String, positional: Int = 2) throws -> RPCParameters {
        try RPCParameters(
            JSONValue(parsing: text.utf8), known: ["agent_id", "limit", "wait", "names", "kind"], positional: positional
        )
    }

    @Test func fieldsAreReadByNameAndByPosition() throws {
        let named = try read(#"{"limit":5,"agent_id":"a","wait":false,"names":["x"],"kind":null}"#)
        #expect(try named.text("agent_id") == "a" && named.integer("limit", in: 1...9) == 5)
        #expect(try named.optionalFlag("wait") == false && named.optionalTexts("names") == ["x"])
        #expect(try named.optionalWord("kind", of: ["fact"]) == nil)
        let placed = try read(#"["a",5]"#)
        #expect(try placed.text("agent_id") == "a" && placed.integer("limit", in: 1...9) == 5)
        #expect(try read("null").optionalText("agent_id") == nil)
    }

    @Test(arguments: [
        (#"{"agentid":"a"}"#, "there is no parameter 'agentid'", "did you mean 'agent_id'?"),
        (#"{"zzzzzzzz":1}"#, "there is no parameter 'zzzzzzzz'", "its fields are agent_id, limit, wait, names, kind"),
        (
            #"["a",1,2]"#, "3 parameters came, 2 are known",
            "send an object; its fields are agent_id, limit, wait, names, kind"
        ),
        ("{}", "'agent_id' is missing", nil), (#"{"agent_id":1}"#, "'agent_id' is not a string", nil),
        (#"{"agent_id":"toolong"}"#, "'agent_id' is not at most 5 long", nil),
        (#"{"agent_id":"a","limit":0}"#, "'limit' is not a whole number from 1 to 9", nil),
        (#"{"agent_id":"a","limit":1.5}"#, "'limit' is not a whole number from 1 to 9", nil),
        (#"{"agent_id":"a","limit":1,"wait":"no"}"#, "'wait' is not true or false", nil),
        (#"{"agent_id":"a","limit":1,"names":["a",1]}"#, "'names' is not an array of strings", nil),
        (#"{"agent_id":"a","limit":1,"kind":"fakt"}"#, "'kind' is not one of fact, other", "did you mean 'fact'?"),
    ])
    func whatIsWrongIsSaid(text: String, message: String, hint: String?) {
        let found = #expect(throws: AegisError.self) {
            let parameters = try read(text)
            _ = try parameters.text("agent_id", limit: 5)
            _ = try parameters.integer("limit", in: 1...9)
            _ = try parameters.optionalFlag("wait")
            _ = try parameters.optionalTexts("names")
            _ = try parameters.optionalWord("kind", of: ["fact", "other"])
        }
        #expect(found?.message == message && found?.hint == hint && found?.code == "invalid-params")
        #expect(found.map { JSONRPCFault($0).number } == -32602)
    }

    @Test func everyKindOfErrorHasANumberOfItsOwn() {
        for kind in ErrorKind.allCases {
            let number = JSONRPCFault(AegisError(kind, "x", "x")).number
            #expect(number == -32602 || (-32099 ... -32000).contains(number))
        }
        #expect(JSONRPCFault(IOError.timeout).number == -32603)
    }
}
