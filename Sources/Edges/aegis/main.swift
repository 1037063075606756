import AegisIO
import Glibc
import LinuxSys

StandardDescriptors.fill()
// The loop runs on this thread and no other one is made on the way of a command.
let words = Array(CurrentProcess.arguments.dropFirst())
do {
    let code = try EventLoop.runMain { @Sendable loop in
        await Entry.run(arguments: words, Context(loop: loop, console: Console(on: loop), caller: .current))
    }
    exit(code)
} catch {
    // Without an event loop there is no console either.
    exit(1)
}
