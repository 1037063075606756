import AegisTestSupport
import Foundation
import Testing

/// Clients of the daemon's HTTP servers that end their sending side with their request, as `nc -N` does.
@Suite struct HalfCloseTests {
    /// `ask` is one such request, to the API on TCP or on its socket.
    private static let client = #"""
        import json, socket, sys, time
        home, address, what = sys.argv[1:4]
        token = open(home + "/token").read().strip()
        port = int(address.rsplit(":", 1)[1])
        def ask(way, target, more=""):
            s = socket.socket(socket.AF_UNIX if way == "unix" else socket.AF_INET)
            s.settimeout(150)
            s.connect(home + "/aegisd.sock" if way == "unix" else ("127.0.0.1", port))
            s.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{more}\r\n".encode())
            s.shutdown(socket.SHUT_WR)
            return s
        def rest(s):
            heard = b""
            while part := s.recv(65536): heard += part
            return heard
        if what == "many":
            for way in ("unix", "tcp"):
                answers = [rest(ask(way, "/v1/status")) for _ in range(200)]
                whole = [a for a in answers if a.startswith(b"HTTP/1.1 200 ") and a.rstrip().endswith(b"}")]
                print(way, len(whole), flush=True)
        else:
            for way in ("unix", "tcp"):
                s = ask(way, f"/v1/instances/{what}/logs?follow=true")
                heard = b""
                while b"\r\n\r\n" not in heard: heard += s.recv(65536)
                print("open", flush=True)
                while b"later" not in heard:
                    part = s.recv(65536)
                    assert part, heard
                    heard += part
                print("heard", flush=True)
                mine = None if way == "unix" else s.getsockname()[1]
                s.close()
            def is_served():
                ends = [line.split()[1:3] for line in open("/proc/net/tcp")]
                return any(a.endswith(":%04X" % port) and b.endswith(":%04X" % mine) for a, b in ends[1:])
            end = time.monotonic() + 150
            while is_served() and time.monotonic() < end: time.sleep(0.05)
            print("still served" if is_served() else "served no more")
        """#

    private func address(_ f: DaemonFixture) async throws -> String {
        struct Status: Decodable { var ports: [String: String] }
        let status = try await f.succeed("status", "--output", "json")
        return try #require(try JSONDecoder().decode(Status.self, from: Data(status.stdout)).ports["api"])
    }

    @Test func everyWholeRequestIsAnswered() async throws {
        try await DaemonFixture.shared { f in
            let result = try await f.run("/usr/bin/python3", ["-c", Self.client, f.home, try await address(f), "many"])
            #expect(result.out == "unix 200\ntcp 200\n", "\(result)")
        }
    }

    /// A stream without an end goes on for who listens, and ends for who has gone.
    @Test func aStreamLastsAsLongAsItsListener() async throws {
        try await DaemonFixture.shared { f in
            let name = "half-heard"
            try await f.succeed(
                "instance", "start", "--name", name, "--", "sh", "-c",
                "until [ -e /tmp/go ]; do sleep 0.1; done; echo later; exec sleep 100000")
            let running = try f.begin(
                program: "/usr/bin/python3", ["-c", Self.client, f.home, try await address(f), name])
            try await f.succeed("exec", name, "--", "touch", "/tmp/go")
            let result = try await running.result()
            #expect(result.out == "open\nheard\nopen\nheard\nserved no more\n", "\(result)")
            try await f.succeed("instance", "delete", name)
        }
    }
}
