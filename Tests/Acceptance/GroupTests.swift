import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Groups of instances against a daemon in a world of its own (needs root and a kernel with nf_tables).
@Suite(.serialized) struct GroupTests {
    /// Beside what `NetworkTests` tries: UDP between members.
    private static let more = """

        def ask(host):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)
            s.sendto(b'hello', (host, 5353)); return s.recv(10)
        """
    /// A member that serves HTTP on 80 and answers datagrams on 5353.
    private static let server = """
        import http.server, socket, threading
        def answer():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5353))
            while True:
                data, sender = s.recvfrom(100); s.sendto(data.upper(), sender)
        threading.Thread(target=answer, daemon=True).start()
        class Web(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.headers['Host'].encode()
                self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
                self.wfile.write(body)
        server = http.server.ThreadingHTTPServer(('', 80), Web)
        print('ready', flush=True)
        server.serve_forever()
        """

    /// Starts a member that serves, and waits until it does.
    private func serve(_ f: DaemonFixture, _ name: String, _ backend: String, _ arguments: String...) async throws {
        let started = try await f.run(
            DaemonFixture.cli,
            ["run", "-d", "--name", name, "--isolation", backend] + arguments + ["--", "python3", "-c", Self.server])
        try #require(started.code == 0, "\(started)")
        try await f.eventually("\(name) serves") { try await f.aegis("logs", name).out.contains("ready") }
    }

    /// What came of attempts inside a running member.
    private func inside(_ f: DaemonFixture, _ name: String, _ lines: String) async throws -> [String: String] {
        let result = try await f.aegis(
            "exec", name, "--", "python3", "-c", NetworkTests.attempts + Self.more + "\n" + lines)
        try #require(result.code == 0, "\(result)")
        return NetworkTests.answers(result.out)
    }

    /// Runs a program in the network that is the host's for the daemon.
    private func inHost(_ f: DaemonFixture, _ words: String) async throws {
        let command = f.launcher + ["/usr/sbin/ip"] + words.split(separator: " ").map(String.init)
        let result = try await f.run(command[0], Array(command.dropFirst()))
        try #require(result.code == 0, "ip \(words): \(result)")
    }

    @Test(arguments: backends) func membersReachEachOtherAndNothingElse(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            // Networks of the host's where the groups', the gateway and the names would be: neither notices the other.
            try await inHost(f, "link add collision type veth peer name collided")
            for address in ["198.19.0.1/24", "198.18.0.1/16"] {
                try await inHost(f, "addr add \(address) dev collision")
            }
            try await inHost(f, "link set collision up")
            try await serve(f, "db", backend, "--group", "shop")
            try await serve(f, "alien", backend == "runc" ? "runsc" : "runc", "--group", "zoo")
            try await f.succeed(
                "run", "-d", "--name", "web", "--isolation", backend, "--network", "shop", "--", "sleep", "1000")
            let info = try await f.succeed("instance", "info", "web", "--output", "json")
            #expect(info.out.replacing(" ", with: "").contains("\"group\":\"shop\""), "\(info.out)")
            #expect(try await f.succeed("group", "list", "--quiet").out == "shop\nzoo\n")
            let shop = try await f.succeed("group", "info", "shop")
            #expect(shop.out.contains("db ") && shop.out.contains("web ") && !shop.out.contains("alien"), "\(shop)")
            let typo = try await f.aegis("group", "info", "shpo")
            #expect(typo.code == 4 && typo.err.contains("did you mean 'shop'?"), "\(typo)")
            let alien = try await inside(
                f, "alien", "show('own', lambda: socket.gethostbyname('alien.zoo.internal'))")["own"]
            #expect(alien == "198.19.1.1")
            let answers = try await inside(
                f, "web",
                """
                show('name', lambda: web('db'))
                show('long', lambda: web('db.shop.internal'))
                show('case', lambda: web('DB.Shop.Internal'))
                show('address', lambda: socket.gethostbyname('db'))
                show('udp', lambda: ask('db'))
                show('nobody', lambda: socket.gethostbyname('nobody.shop.internal'))
                show('stranger', lambda: socket.gethostbyname('alien'))
                show('foreign', lambda: socket.gethostbyname('alien.zoo.internal'))
                show('other', lambda: literal('198.19.1.1', 80))
                show('othernet', lambda: datagram('198.19.1.1'))
                show('host', lambda: literal('93.184.216.1', 22))
                show('outside', lambda: literal('93.184.216.34', 80))
                show('named', lambda: web('web.example'))
                show('private', lambda: literal('10.9.9.9', 80))
                show('metadata', lambda: literal('169.254.169.254', 80))
                show('six', lambda: socket.create_connection(('2001:db8::1', 80), 3))
                """)
            for name in ["name", "long"] { #expect(answers[name]?.hasPrefix("(200, 'db") == true, "\(answers)") }
            #expect(answers["case"]?.hasPrefix("(200, 'DB.Shop.Internal'") == true)
            #expect(answers["address"] == "198.19.0.1")
            #expect(answers["udp"] == "b'HELLO'")
            for name in ["nobody", "stranger", "foreign", "named"] {
                #expect(answers[name]?.hasPrefix("gaierror") == true, "\(name): \(answers[name] ?? "-")")
            }
            for name in ["other", "host", "outside", "private", "metadata"] {
                #expect(answers[name]?.hasPrefix("ConnectionResetError") == true, "\(name): \(answers[name] ?? "-")")
            }
            #expect(answers["othernet"]?.hasPrefix("TimeoutError") == true)
            #expect(answers["six"]?.hasPrefix("OSError") == true, "\(answers["six"] ?? "-")")
        }
    }

    @Test(arguments: backends) func aServerOnItsNetworksAddressAloneIsServed(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "bound-\(backend)"
            let server = """
                import http.server, socket
                http.server.HTTPServer((socket.gethostbyname("\(name).shop.internal"), 80), http.server.SimpleHTTPRequestHandler).serve_forever()
                """
            try await f.succeed(
                "run", "-d", "--name", name, "--isolation", backend, "--group", "shop", "--expose", "80", "--",
                "python3", "-c", server)
            #expect(try await f.ask(f.url(name)).status == "200")
            try await f.succeed("instance", "delete", name)
        }
    }

    /// What members send each other keeps both of them awake, and only them: another one, of the same rules, sleeps twice
    /// meanwhile, and they do once it ends.
    @Test(arguments: backends) func membersThatTalkKeepEachOtherAwake(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            let always = ["--idle-pause", "0s", "--idle-stop", "0s", "--isolation", backend, "--group", "shop"]
            let server = """
                import socket
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5353))
                while True:
                    data, sender = s.recvfrom(100); s.sendto(data.upper(), sender)
                """
            let client = """
                import os, socket, time
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
                while not os.path.exists('/tmp/quiet'):
                    s.sendto(b'hello', ('talked-to', 5353))
                    try: s.recv(10) and open('/tmp/heard', 'w').close()
                    except TimeoutError: pass
                    time.sleep(0.2)
                time.sleep(100000)
                """
            for (name, command) in [
                ("talked-to", ["python3", "-c", server]), ("talker", ["python3", "-c", client]),
                ("silent", ["sleep", "100000"]),
            ] {
                try await f.succeed(words: ["instance", "start", "--name", name] + always + ["--"] + command)
            }
            try await f.eventually("they talk") {
                try await f.aegis("exec", "talker", "--", "test", "-e", "/tmp/heard").code == 0
            }
            for name in ["talked-to", "talker", "silent"] {
                try await f.succeed("instance", "idle", name, "--idle-pause", "10s")
            }
            for round in 1...2 {
                try await f.eventually("the silent one is paused, \(round)") {
                    try await f.record("silent").state == "paused"
                }
                try await f.succeed("instance", "resume", "silent")
                // Nobody wakes these: what runs now has not been paused.
                for name in ["talked-to", "talker"] {
                    #expect(try await f.record(name).state == "running", "\(name), \(round)")
                }
            }
            try await f.succeed("exec", "talker", "--", "touch", "/tmp/quiet")
            for name in ["talked-to", "talker"] {
                try await f.eventually("\(name) is paused") { try await f.record(name).state == "paused" }
            }
        }
    }

    /// Other members do not wake one that its ports wake: whoever starts it is told.
    @Test func aMemberThatSleepsIsToldOf() async throws {
        try await DaemonFixture.shared { f in
            let start = ["instance", "start", "--group", "sleepers", "--expose", "80", "--name"]
            for (name, options, isTold) in [
                ("sleeper", [], true), ("waking", ["--idle-pause", "0s"], false), ("silent", ["--quiet"], false),
            ] as [(String, [String], Bool)] {
                let result = try await f.run(DaemonFixture.cli, start + [name] + options + ["--", "sleep", "1000"])
                #expect(result.code == 0 && result.err.contains("members of 'sleepers'") == isTold, "\(result)")
                try await f.succeed("instance", "delete", name)
            }
        }
    }

    @Test(arguments: backends) func placesOpenBesideAGroup(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await serve(f, "db", backend, "--group", "shop", "--allow", "web.example")
            try await serve(f, "back", backend, "--network", "shop", "--group", "shop")
            let lines = """
                show('member', lambda: web(other))
                show('web', lambda: web('web.example'))
                """
            let db = try await inside(f, "db", "other = 'back'\n" + lines)
            #expect(db["member"] == "(200, 'back')" && db["web"]?.hasPrefix("(200") == true, "\(db)")
            let back = try await inside(f, "back", "other = 'db'\n" + lines)
            #expect(back["member"] == "(200, 'db')" && back["web"]?.hasPrefix("gaierror") == true, "\(back)")
            // A stopped member has no name; started again it has.
            try await f.succeed("instance", "stop", "db")
            #expect(try await inside(f, "back", "other = 'db'\n" + lines)["member"]?.hasPrefix("gaierror") == true)
            try await f.succeed("instance", "start", "db")
            try await f.eventually("db is back") {
                try await inside(f, "back", "other = 'db'\n" + lines)["member"] == "(200, 'db')"
            }
        }
    }

    @Test(arguments: backends) func membersMoveWhileTheyRun(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await serve(f, "one", backend, "--group", "left")
            try await serve(f, "two", backend, "--group", "right")
            try await serve(f, "three", backend)
            let look = "show('one', lambda: web('one'))"
            for name in ["two", "three"] {
                #expect(try await inside(f, name, look)["one"]?.hasPrefix("gaierror") == true)
                try await f.succeed("instance", "network", name, "--group", "left")
                #expect(try await inside(f, name, look)["one"] == "(200, 'one')")
            }
            // Nobody is left in it: its network can be another group's.
            try await f.succeed("instance", "network", "two")
            let answers = try await inside(f, "two", look + "\nshow('literal', lambda: literal('198.19.0.1', 80))")
            #expect(answers["one"]?.hasPrefix("gaierror") == true)
            #expect(answers["literal"]?.hasPrefix("ConnectionResetError") == true, "\(answers)")
        }
    }

    @Test(arguments: backends) func groupsOutliveTheDaemon(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await serve(f, "one", backend, "--group", "left")
            try await serve(f, "two", backend, "--group", "left")
            let look = "show('at', lambda: socket.gethostbyname(other))\nshow('web', lambda: web(other))"
            #expect(try await inside(f, "two", "other = 'one'\n" + look)["at"] == "198.19.0.1")
            try await f.crash()
            try await f.up()
            try await serve(f, "three", backend, "--group", "left")
            let two = try await inside(f, "two", "other = 'one'\n" + look)
            #expect(two["at"] == "198.19.0.1" && two["web"] == "(200, 'one')", "\(two)")
            let three = try await inside(f, "three", "other = 'two'\n" + look)
            #expect(three["at"] == "198.19.0.2" && three["web"] == "(200, 'two')", "\(three)")
        }
    }

    /// A child is in its parent's group or in none: also after a daemon that did not see the parent leave it.
    @Test(arguments: backends) func aChildHasNoGroupThatItsParentHasLeft(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await serve(f, "db", backend, "--group", "left")
            let started = try await f.aegis(
                "run", "-d", "--name", "parent", "--isolation", backend, "--group", "left", "--grant", "spawn: *", "--",
                "sleep", "100000")
            try #require(started.code == 0, "\(started)")
            struct Made: Decodable { var id: String }
            let answer = try await f.ask(
                "parent", "POST", "/v1/instances",
                #"{"command": ["sleep", "100000"], "network": {"group": "left"}, "limits": {"memory": "128Mi"}}"#)
            try #require(answer.hasPrefix("201"), "\(answer)")
            let child = try JSONDecoder().decode(Made.self, from: Data(answer.dropFirst(4).utf8)).id
            let look = "show('db', lambda: web('db')[0])"
            #expect(try await inside(f, child, look)["db"] == "200")
            try await f.succeed("instance", "network", "parent", "--group", "right")
            #expect(try await inside(f, child, look)["db"]?.hasPrefix("gaierror") == true)
            try await f.crash()
            try await f.up()
            #expect(try await f.record(child).state == "running")
            #expect(try await inside(f, child, look)["db"]?.hasPrefix("gaierror") == true)
            #expect(try await inside(f, "parent", look)["db"]?.hasPrefix("gaierror") == true)
        }
    }

    @Test func whatCannotBeAGroupIsRefused() async throws {
        try await DaemonFixture.shared { f in
            for name in ["host", "bridge", "default", "none", "allow", "Shop", "i-0123456789abcdef", "a_b", "-a"] {
                try await f.refuse("run", "--group=\(name)", "--", "true", code: 2, error: "invalid-argument")
            }
            try await f.refuse("run", "--network", "host", "--", "true", code: 2, error: "invalid-argument")
            try await f.refuse(
                "run", "--network", "a", "--group", "b", "--", "true", code: 2, error: "invalid-argument")
            try await f.refuse(
                "run", "--network", "none", "--group", "b", "--", "true", code: 2, error: "invalid-argument")
        }
    }

    // MARK: Forged frames

    /// What a member with all rights over its own link can put on it; each frame carries its name.
    private static let forger = """
        import socket, struct, sys, time
        own, victim = sys.argv[1], sys.argv[2]
        def mac(ip): return b'\\x02\\xab' + socket.inet_aton(ip)
        def sum16(b):
            s = sum(struct.unpack('!%dH' % (len(b) // 2), b)); s = (s & 0xffff) + (s >> 16); return ~(s + (s >> 16)) & 0xffff
        def ip4(src, dst, data, sport=4000, dport=9):
            udp = struct.pack('!HHHH', sport, dport, 8 + len(data), 0) + data
            head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(src), socket.inet_aton(dst))
            return head[:10] + struct.pack('!H', sum16(head)) + head[12:] + udp
        def arp(op, hw, ip, to, name):
            return struct.pack('!HHBBH', 1, 0x800, 6, 4, op) + hw + socket.inet_aton(ip) + mac(to) + socket.inet_aton(to) + name
        other = own.rsplit('.', 1)[0] + '.77'
        everyone = b'\\xff' * 6
        ip, ar, six = b'\\x08\\0', b'\\x08\\x06', b'\\x86\\xdd'
        frames = {
            'address': (mac(victim), mac(own), ip + ip4(other, victim, b'<address>')),
            'neighbour': (mac(victim), mac(own), ip + ip4(victim, victim, b'<neighbour>')),
            'hardware': (mac(victim), mac(other), ip + ip4(own, victim, b'<hardware>')),
            'both': (mac(victim), mac(other), ip + ip4(other, victim, b'<both>')),
            'arp-reply': (mac(victim), mac(own), ar + arp(2, mac(own), other, victim, b'<arp-reply>')),
            'arp-hardware': (mac(victim), mac(own), ar + arp(2, mac(other), own, victim, b'<arp-hardware>')),
            'arp-gateway': (everyone, mac(own), ar + arp(1, mac(own), '198.18.0.1', victim, b'<arp-gateway>')),
            'arp-announce': (everyone, mac(own), ar + arp(1, mac(own), victim, victim, b'<arp-announce>')),
            'arp-reverse': (mac(victim), mac(own), ar + arp(4, mac(own), own, victim, b'<arp-reverse>')),
            'dhcp': (mac(victim), mac(own), ip + ip4(own, victim, b'<dhcp>', 67, 68)),
            'broadcast': (everyone, mac(own), ip + ip4(own, '255.255.255.255', b'<broadcast>')),
            'multicast': (b'\\x01\\0\\x5e\\0\\0\\xfb', mac(own), ip + ip4(own, '224.0.0.251', b'<multicast>', 5353, 5353)),
            'network': (mac(victim), mac(own), ip + ip4(own, own.rsplit('.', 1)[0] + '.255', b'<network>')),
            'through': (mac(victim), mac(own), ip + ip4(own, '8.8.8.8', b'<through>')),
            'six': (b'\\x33\\x33\\0\\0\\0\\1', mac(own), six + b'\\x60' + bytes(39) + b'<six>'),
            'six-unicast': (mac(victim), mac(own), six + b'\\x60' + bytes(39) + b'<six-unicast>'),
            'vlan': (mac(victim), mac(own), b'\\x81\\0\\0\\5' + ip + ip4(own, victim, b'<vlan>')),
            'other-type': (mac(victim), mac(own), b'\\x88\\xb5' + b'<other-type>' + bytes(40)),
            'good-arp': (mac(victim), mac(own), ar + arp(2, mac(own), own, victim, b'<good-arp>')),
            'good': (mac(victim), mac(own), ip + ip4(own, victim, b'<good>')),
        }
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth1', 0))
        for to, sender, rest in frames.values(): s.send(to + sender + rest + bytes(max(0, 46 - len(rest))))
        print(len(frames))
        """
    /// Names of what arrives at a member's link, until the last one does.
    private static let listener = """
        import re, socket, sys
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('eth1', 3)); s.settimeout(30)
        open(sys.argv[1], 'w').close()
        seen = set()
        while 'good' not in seen:
            for name in re.findall(rb'<([a-z-]+)>', s.recv(2000)): seen.add(name.decode())
        print(*sorted(seen), flush=True)
        """

    /// A process of the host's that is in an instance's network.
    private func process(of instance: String, sleeping mark: String, _ backend: String) throws -> String {
        for pid in try FileManager.default.contentsOfDirectory(atPath: "/proc") where Int(pid) != nil {
            guard let bytes = try? Files.read("/proc/\(pid)/cmdline", limit: 1 << 16) else { continue }
            let words = String(decoding: bytes, as: UTF8.self).split(separator: "\0").map(String.init)
            if backend == "runsc" {
                if words.first == "runsc-sandbox", words.contains(where: { $0.contains(instance) }) { return pid }
            } else if words.first == "sleep", words.last == mark {
                return pid
            }
        }
        throw IOError(.closed, "no process of \(instance)")
    }

    @Test(arguments: backends) func forgedFramesGoNowhere(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            var places: [String] = []
            for (number, name) in ["forger", "victim"].enumerated() {
                let mark = "86\(Int.random(in: 1_000_000...9_999_999)).\(number)"
                let id = try await f.succeed(
                    "run", "-d", "--name", name, "--isolation", backend, "--group", "shop", "--", "sleep", mark
                ).out.trimmingCharacters(in: .whitespacesAndNewlines)
                try await f.succeed("exec", name, "--", "true")
                places.append("--net=/proc/\(try process(of: id, sleeping: mark, backend))/ns/net")
            }
            let victim = try f.begin(
                program: "/usr/bin/nsenter", [places[1], "/usr/bin/python3", "-c", Self.listener, f.path("listening")])
            try await f.eventually("the victim listens") { Files.exists(f.path("listening")) }
            let forged = try await f.run(
                "/usr/bin/nsenter",
                [places[0], "/usr/bin/python3", "-c", Self.forger, "198.19.0.1", "198.19.0.2"])
            #expect(forged.code == 0 && forged.out == "20\n", "\(forged)")
            let result = try await victim.result()
            #expect(result.out.hasSuffix("good good-arp\n"), "\(result)")
            try await f.eventually("frames are denied in the log") {
                let log = try await f.aegis("logs", "forger")
                return (log.out + log.err).contains("(frame-denied)")
            }
        }
    }
}
