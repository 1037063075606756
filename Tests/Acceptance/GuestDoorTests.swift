import AegisTestSupport
import Foundation
import Testing

/// The door of programs inside to the guest API: carried over the channel, without any network.
@Suite struct GuestDoorTests {
    /// Requests by both ways in, many at once, with a long body; and more connections than there may be.
    private static let visit = """
        import http.client, os, socket, threading, time
        assert os.environ["AEGIS_ORCHESTRATOR_URL"] == os.environ["AEGIS_GUEST_API"] == "http://127.0.0.1:7777"
        class Local(http.client.HTTPConnection):
            def connect(self):
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.settimeout(60)
                self.sock.connect(os.environ["AEGIS_GUEST_SOCKET"])
        def ask(way, method="GET", path="/v1/self", body=None, times=1):
            c = Local("localhost") if way else http.client.HTTPConnection("127.0.0.1", 7777, timeout=60)
            for _ in range(times):
                c.request(method, path, body)
                answer = c.getresponse()
                text = answer.read()
            c.close()
            return answer.status, text
        for way in (0, 1): print(way, ask(way)[0])
        long = '{"ttl": "1m"' + " " * 1000000 + "}"
        for way in (0, 1): print("long", ask(way, "POST", "/v1/self/keepalive", long)[0])
        routes = ask(0, path="/v1/openapi.json")[1]
        # An end that comes at once with the last bytes is seen: nobody waits for the rest of such a request.
        def half(way, text):
            s = socket.socket(socket.AF_UNIX if way else socket.AF_INET)
            s.settimeout(20)
            s.connect(os.environ["AEGIS_GUEST_SOCKET"] if way else ("127.0.0.1", 7777))
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
            answer = b""
            while part := s.recv(65536): answer += part
            s.close()
            return answer
        whole = b"GET /v1/self HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
        print("whole", {half(way, whole)[:12] for way in (0, 1) for _ in range(100)})
        print("half", {half(way, b"GET /v1/self HT") for way in (0, 1) for _ in range(100)})
        done = []
        def work(way):
            done.append(ask(way, times=5)[0])
            done.append(ask(way, path="/v1/openapi.json")[1] == routes)
        threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(40)]
        for t in threads: t.start()
        for t in threads: t.join()
        print("many", done.count(200), done.count(True))
        held = []
        for n in range(1000):
            s = socket.socket()
            s.settimeout(60)
            s.connect(("127.0.0.1", 7777))
            held.append(s)
        def closed(s):
            s.setblocking(False)
            try: return s.recv(1) == b""
            except BlockingIOError: return False
            except OSError: return True
        while sum(map(closed, held)) < 800: time.sleep(0.05)
        for s in held: s.close()
        while True:
            try: status = ask(0)[0]
            except (ConnectionError, http.client.HTTPException): continue
            break
        print("then", status)
        """

    @Test(arguments: backends) func bothWaysInServeManyAtOnceWithoutANetwork(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "visited-\(backend)"
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--network", "none", "--", "sleep",
                "100000")
            let seen = try await f.succeed("exec", name, "--", "python3", "-c", Self.visit)
            #expect(
                seen.out
                    == "0 200\n1 200\nlong 200\nlong 200\nwhole {b'HTTP/1.1 200'}\nhalf {b''}\nmany 40 40\nthen 200\n",
                "\(seen)")
            // Anybody inside, not root alone.
            let other = try await f.succeed(
                "exec", "--user", "1000:1000", name, "--", "python3", "-c",
                "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/aegis/api.sock'); print('in')")
            #expect(other.out == "in\n", "\(other)")
            try await f.succeed("instance", "delete", name)
        }
    }

    /// A program that has a connection while the daemon dies, and makes another before there is a new one.
    private static let survive = """
        import http.client, os, time
        def connect(): return http.client.HTTPConnection("127.0.0.1", 7777, timeout=170)
        def ask(c):
            c.request("GET", "/v1/self")
            answer = c.getresponse()
            answer.read()
            return answer.status
        first = connect()
        print("first", ask(first), flush=True)
        while not os.path.exists("/workspace/dead"): time.sleep(0.05)
        second = connect()
        second.request("GET", "/v1/self")
        print("asked", flush=True)
        print("second", second.getresponse().status, flush=True)
        try: cut = first.sock.recv(1) == b""
        except ConnectionError: cut = True
        print("cut", cut, flush=True)
        print("third", ask(connect()), flush=True)
        time.sleep(100000)
        """

    @Test(arguments: backends) func whoeverAsksWhileTheDaemonIsAwayIsAnsweredByTheNext(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let name = "patient-\(backend)"
            let folder = f.path("work")
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--network", "none", "--workspace", folder,
                "--", "python3", "-c", Self.survive)
            func log() async throws -> String { try await f.aegis("logs", name).out }
            try await f.eventually("it was served") { try await log() == "first 200\n" }
            try await f.crash()
            try Data().write(to: URL(fileURLWithPath: folder + "/dead"))
            try await f.up()
            try await f.eventually("it was served by the next") { try await log().contains("third") }
            #expect(try await log() == "first 200\nasked\nsecond 200\ncut True\nthird 200\n")
            // Paused and resumed: the door is there as it was.
            try await f.succeed("instance", "pause", name)
            try await f.succeed("instance", "resume", name)
            #expect(try await f.ask(name, "GET", "/v1/self").hasPrefix("200 "))
        }
    }

    @Test(arguments: backends) func aLowPortAndOneThatIsExposedWork(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let low = try await f.succeed(
                "run", "--isolation", backend, "--guest-api", "80", "--", "python3", "-c", DaemonFixture.ask, "GET",
                "/v1/self", "")
            #expect(low.out.hasPrefix("200 "), "\(low)")
            let off = try await f.succeed(
                "run", "--isolation", backend, "--guest-api", "off", "--", "sh", "-c",
                "ls /run/aegis 2>&1; env | grep -E 'AEGIS_(GUEST|ORCH)'; true")
            #expect(!off.out.contains("api.sock") && !off.out.contains("AEGIS_GUEST"), "\(off)")
        }
    }
}
