#if arch(x86_64)
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Called by number, as an attacker does: the numbers are x86-64's.
@Suite struct SetIDTests {
    /// A program that runs as its owner for every user of the host is not made in a folder of the host, by no call.
    @Test(arguments: backends) func noSetIDProgramIsLeftInAHostFolder(_ backend: String) async throws {
        let attempt = """
            import ctypes, os, struct, sys
            libc = ctypes.CDLL(None, use_errno=True)
            def call(number, *arguments):
                if libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), 'refused')
            def attempt(name, body):
                try: body(); print(name, 'done')
                except OSError as error: print(name, error.errno)
            def file(name):
                open(name, 'w').write('x'); return name.encode()
            ids = 0o6755
            attempt('chmod', lambda: call(90, file('a'), ids))
            attempt('fchmod', lambda: os.fchmod(os.open(file('b'), os.O_RDONLY), 0o4755))
            attempt('fchmodat', lambda: call(268, -100, file('c'), 0o2755))
            attempt('fchmodat2', lambda: call(452, -100, file('d'), ids, 0))
            attempt('open', lambda: call(2, b'e', os.O_CREAT | os.O_WRONLY, ids))
            attempt('openat', lambda: os.open('f', os.O_CREAT | os.O_WRONLY, 0o4755))
            attempt('creat', lambda: call(85, b'g', ids))
            attempt('mknod', lambda: call(133, b'h', 0o100000 | ids, 0))
            attempt('mknodat', lambda: call(259, -100, b'i', 0o100000 | ids, 0))
            how = struct.pack('QQQ', os.O_CREAT | os.O_WRONLY, ids, 0)
            attempt('openat2', lambda: call(437, -100, b'j', how, len(how)))
            attempt('tmpfile', lambda: os.open('.', os.O_TMPFILE | os.O_RDWR, 0o4755))
            capability = struct.pack('<5I', 0x02000001, 1 << 7, 0, 0, 0)
            attempt('setcap', lambda: os.setxattr(file('k'), 'security.capability', capability))
            os.chmod(file('fine'), 0o751); os.close(os.open('fine2', os.O_CREAT | os.O_WRONLY, 0o640)); open('fine').read()
            """
        try await DaemonFixture.shared { f in
            let scratch = try TemporaryDirectory()
            let place = scratch.path("shared")
            try Files.makeDirectories(place, mode: 0o755)
            try f.file(scratch.path("attempt.py"), attempt)
            let script = "\(scratch.path("attempt.py")):/attempt.py"
            let targets = [["--workspace", place], ["--mount", "\(place):/m:rw", "--workdir", "/m"]]
            for target in targets {
                let r = try await f.run(
                    DaemonFixture.cli,
                    ["run", "--isolation", backend, "--mount", script] + target + ["--", "python3", "/attempt.py"])
                #expect(r.code == 0 && !r.out.contains("done") && r.out.split(separator: "\n").count == 12, "\(r)")
                let left = try await f.shell(
                    "find '\(place)' -perm /6000; getcap -r '\(place)'; stat -c '%a %n' '\(place)'/fine*")
                #expect(left.out == "751 \(place)/fine\n640 \(place)/fine2\n", "\(left)")
                try await f.shell("rm -rf '\(place)'/*")
            }
            // Where nothing of the host can be written, and where it was asked for, packages may do what they need.
            let own = try await f.aegis(
                "run", "--isolation", backend, "--mount", "\(place):/workspace/m", "--", "sh", "-c",
                "cp /bin/true /usr/bin/t && chmod 6755 /usr/bin/t && echo set")
            #expect(own.code == 0 && own.out == "set\n", "\(own)")
            let asked = try await f.aegis(
                "run", "--isolation", backend, "--allow-setuid", "--workspace", place, "--", "sh", "-c",
                "echo x > s; chmod 4755 s")
            #expect(try asked.code == 0 && Files.status("\(place)/s").permissions == 0o4755, "\(asked)")
        }
    }
}
#endif
