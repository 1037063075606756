internal import AegisCore
internal import Synchronization

/// One line on a terminal that is written over and over, and gone when something real is printed.
final class ProgressLine: Sendable {
    private let console: Console
    private let enabled: Bool
    private let shown = Mutex(false)

    /// A line that is not shown yet; when it is not enabled, or stderr is no terminal, it never is.
    init(_ console: Console, enabled: Bool) {
        self.console = console
        self.enabled = enabled && console.errIsTerminal
    }

    /// Shows a text instead of the last one, cut to the terminal's width.
    func show(_ text: String) async {
        guard enabled else { return }
        let width = Int(Terminal.size(2)?.columns ?? 80)
        shown.withLock { $0 = true }
        await console.say("\r\u{1b}[K" + Plain.cut(Plain.text(text), to: max(20, width - 1)))
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
