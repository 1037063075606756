import AegisTestSupport
import Testing

/// The CLI on a real terminal, whose size changes while it runs.
@Suite struct TerminalClientTests {
    /// Runs a command on a terminal of 31 rows and 97 columns, asks the shell in it for its size after each change of the
    /// terminal's, and ends it. What the terminal was set to before must be so afterwards.
    private static let client = """
        import fcntl, os, pty, struct, sys, termios, time
        def resize(fd, rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        end = sys.argv.pop(1)
        ready, go = os.pipe()
        pid, fd = pty.fork()
        if pid == 0:
            os.read(ready, 1)
            os.execv(sys.argv[1], sys.argv[1:])
        resize(fd, 31, 97)
        before = termios.tcgetattr(fd)
        os.write(go, b"x")
        seen = b""
        def fail(why):
            print(why, seen); sys.exit(1)
        def wait(text):
            global seen
            while text not in seen:
                try: more = os.read(fd, 65536)
                except OSError: more = b""
                if not more: fail(f"no {text}")
                seen += more
            end = seen.index(text) + len(text)
            found, seen = seen[:end], seen[end:]
            return found
        asked = 0
        def until(size):
            # The shell is asked again until the change has come to it: nothing tells when.
            global asked
            while True:
                asked += 1
                os.write(fd, b"stty size; echo answer$((%d + 0))\\n" % asked)
                if b"\\n" + size + b"\\r\\n" in b"\\n" + wait(b"answer%d\\r\\n" % asked).split(b"\\r\\n", 1)[-1]: return
                time.sleep(0.05)
        os.write(fd, b"echo be'gin'\\n")
        wait(b"begin\\r\\n")
        until(b"31 97")
        for rows, columns in (50, 132), (5, 20), (24, 80):
            resize(fd, rows, columns)
            until(b"%d %d" % (rows, columns))
        # ^C is for what runs inside, not for the client. The job itself says that it is there: a shell that is just making
        # one may lose the signal.
        os.write(fd, b"sh -c 'echo sle$(:)eps; exec sleep 1000'\\n")
        wait(b"sleeps\\r\\n")
        os.write(fd, b"\\x03")
        until(b"24 80")
        os.write(fd, b"\\x10\\x11" if end == "leave" else b"exit 7\\n")
        try:
            while os.read(fd, 65536): pass
        except OSError: pass
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print("code", code, "restored", termios.tcgetattr(fd) == before)
        """

    @Test(arguments: backends) func theProcessInsideSeesEverySize(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "terminal-\(backend)"
            try await f.succeed("run", "-d", "--name", name, "--isolation", backend, "--", "sleep", "1000")
            for words in [["exec", "-it", name, "--", "sh"], ["run", "-it", "--isolation", backend, "--", "sh"]] {
                let result = try await f.run(
                    "/usr/bin/python3", ["-c", Self.client, "exit", DaemonFixture.cli] + words)
                #expect(result.out == "code 7 restored True\n", "\(words) \(result)")
            }
            try await f.succeed("instance", "delete", name)
        }
    }

    @Test(arguments: backends) func whoAttachesHasTheTerminal(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "attached-\(backend)"
            try await f.succeed("instance", "start", "-it", "--name", name, "--isolation", backend, "--", "sh")
            for (end, code) in [("leave", 0), ("exit", 7)] {
                let result = try await f.run(
                    "/usr/bin/python3", ["-c", Self.client, end, DaemonFixture.cli, "attach", name])
                #expect(result.out == "code \(code) restored True\n", "\(end) \(result)")
            }
            let late = try await f.aegis("attach", name)
            #expect(late.code == 125 && late.err.contains("(instance-stopped)"), "\(late)")
            #expect(late.err.contains("hint: start it with 'aegis instance start \(name)'"), "\(late)")
            try await f.succeed("instance", "delete", name)
        }
    }
}
