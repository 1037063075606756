import AegisIO
import AegisTestSupport
import Foundation
import Testing

/// Sandboxes that are kept ready of a name whose image comes, changes and goes.
extension WarmTests {
    @Test(arguments: backends) func theNewImageOfANameIsKeptReady(_ backend: String) async throws {
        try await withRegistry { f, registry in
            let image = registry.name("app:1")
            try await registry.push("app:1", config: #""Cmd":["/bin/cat","/v"]"#, "\(Registry.busybox) echo one > v")
            try await f.succeed("down")
            try await f.succeed("up", "--ports", "auto", "--warm", "\(image)@\(backend)=1")
            try await f.eventually("it is said why there is none") {
                try await warm(f).first?.obstacle?.contains("not here") ?? false
            }
            try await f.succeed("image", "pull", image)
            try await full(f)
            #expect(try await f.succeed("run", "--isolation", backend, "--image", image).out == "one\n")
            try await full(f)
            try await registry.push("app:1", config: #""Cmd":["/bin/cat","/v"]"#, "\(Registry.busybox) echo two > v")
            try await f.succeed("image", "pull", image)
            try await f.eventually("it is made anew") {
                try await warm(f).allSatisfy { $0.ready == 1 && $0.refills == 3 }
            }
            #expect(try await f.succeed("run", "--isolation", backend, "--image", image).out == "two\n")
            #expect(try await warm(f).allSatisfy { $0.claimed == 2 })
            // Also when it comes while one of the old is being made.
            for round in 1...4 {
                try await full(f)
                try await registry.push(
                    "app:1", config: #""Cmd":["/bin/cat","/v"]"#, "\(Registry.busybox) echo \(round) > v")
                let pull = try f.begin("image", "pull", image)
                while pull.child.exitStatus == nil {
                    try await f.succeed("run", "--isolation", backend, "--image", image)
                    try await Task.sleep(for: .milliseconds(100))
                }
                let pulled = try await pull.result()
                #expect(pulled.code == 0, "\(pulled)")
                try await f.eventually("the new one is taken, \(round)") {
                    let before = try await warm(f).reduce(0) { $0 + $1.claimed }
                    #expect(
                        try await f.succeed("run", "--isolation", backend, "--image", image).out == "\(round)\n")
                    return try await warm(f).reduce(0) { $0 + $1.claimed } > before
                }
            }
            try await full(f)
            // What is kept ready does not keep the image from being deleted.
            try await f.succeed("image", "delete", image)
            try await f.eventually("there is none any more") { try await warm(f).allSatisfy { $0.ready == 0 } }
        }
    }
}
