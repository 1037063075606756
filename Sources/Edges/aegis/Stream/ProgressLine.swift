internal import AegisCore
internal import Synchronization

/// One line on a terminal that is written over and over, and gone when something real is printed. Where stderr is no
/// terminal only what takes a minute is told, with a line at its begin and one at its end: the build of the base image.
final class ProgressLine: Sendable {
    private let console: Console
    private let enabled: Bool
    private let speaks: Bool
    private let shown = Mutex(false)
    /// What was told of the base image's build, where there is no terminal.
    private enum Build { case none, begun, ended }
    private let build = Mutex(Build.none)

    /// A line that is not shown yet; when it is not enabled, or stderr is no terminal, it never is.
    init(_ console: Console, enabled: Bool) {
        self.console = console
        self.enabled = enabled && console.errIsTerminal
        speaks = enabled && !console.errIsTerminal
    }

    /// Shows a text instead of the last one, cut to the terminal's width.
    func show(_ text: String) async {
        if speaks { return await tell(text) }
        guard enabled else { return }
        let width = Int(Terminal.size(2)?.columns ?? 80)
        shown.withLock { $0 = true }
        await console.say("\r\u{1b}[K" + Plain.cut(Plain.text(text), to: max(20, width - 1)))
    }

    /// Notices of the base image begin with its name; the last of them is that it is ready.
    private func tell(_ text: String) async {
        guard text.hasPrefix("base: ") else { return }
        guard text != "base: ready" else { return await finish() }
        let isNew = build.withLock { build in
            defer { if build == .none { build = .begun } }
            return build == .none
        }
        if isNew { await console.say("aegis: building the base image, once; this can take a minute\n") }
    }

    /// What was waited for is there.
    func finish() async {
        let isNews = build.withLock { build in
            defer { if build == .begun { build = .ended } }
            return build == .begun
        }
        if isNews { await console.say("aegis: the base image is ready\n") }
    }

    /// Takes the line away.
    func clear() async {
        let was = shown.withLock { shown in
            defer { shown = false }
            return shown
        }
        if was { await console.say("\r\u{1b}[K") }
    }
}
