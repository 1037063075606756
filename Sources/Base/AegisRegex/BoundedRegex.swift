internal import CPcre2

/// Why a pattern cannot be used, or a match could not be decided.
package struct RegexError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kinds.
    package enum Kind: Sendable, Equatable {
        /// The pattern cannot be read.
        case syntax
        /// Matching took more steps or memory than it may.
        case tooComplex
        /// Whoever looks for it did not want to know any more.
        case stopped
    }
    package var kind: Kind
    /// What is wrong.
    package var message: String
    /// Where in the pattern, in bytes; nil where there is no place.
    package var offset: Int?

    /// Describes what is wrong.
    package init(kind: Kind, message: String, offset: Int? = nil) {
        self.kind = kind
        self.message = message
        self.offset = offset
    }

    package var description: String { offset.map { "\(message) at byte \($0)" } ?? message }
}

/// A regular expression from somebody else (PCRE2 syntax): what it may cost is bounded, whatever pattern and text are.
@safe package final class BoundedRegex: Sendable {
    /// How a pattern is read.
    package struct Options: OptionSet, Sendable {
        package let rawValue: Int
        package init(rawValue: Int) { self.rawValue = rawValue }
        /// Letters match in both cases, as Unicode says.
        package static let caseInsensitive = Options(rawValue: 1)
        /// The pattern is text, not a pattern.
        package static let literal = Options(rawValue: 2)
        /// A match can be stopped while it goes on (`Matcher.init(_:isOver:)`).
        ///
        /// Steps alone do not bound time: one of `a*` goes over a whole line, so that a million of them take hours on a long one.
        package static let stoppable = Options(rawValue: 4)
        /// As JSON Schema has patterns (ECMA-262): `\u4e00` is a character, and `$` is the very end.
        package static let schema = Options(rawValue: 8)
    }

    /// The longest pattern, in bytes.
    package static let longest = 4096
    /// Steps of back-tracking in one attempt.
    package static let mostSteps: UInt32 = 1_000_000
    /// The same of a pattern that is too large to be stopped.
    static let fewSteps: UInt32 = 10_000
    /// How deep an attempt may nest.
    package static let deepest: UInt32 = 10_000
    /// Memory of one attempt, in KiB.
    package static let mostMemory: UInt32 = 16 << 10

    // SAFETY: no lock is needed: written once in `init`, and PCRE2 only reads a compiled pattern while it matches, on any thread.
    private nonisolated(unsafe) let code: OpaquePointer
    // SAFETY: the same, no lock: on every thread it is only read.
    private nonisolated(unsafe) let context: OpaquePointer

    /// Reads a pattern.
    ///
    /// - Parameters:
    ///   - pattern: at most `longest` bytes.
    ///   - options: how it is read.
    /// - Throws: `RegexError` with the place.
    package init(_ pattern: String, options: Options = []) throws(RegexError) {
        let bytes = Array(pattern.utf8)
        guard bytes.count <= Self.longest else {
            throw RegexError(kind: .syntax, message: "the pattern is longer than \(Self.longest) bytes", offset: nil)
        }
        var flags = UInt32(PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C)
        if options.contains(.caseInsensitive) { flags |= UInt32(PCRE2_CASELESS) }
        if options.contains(.schema) { flags |= UInt32(PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX) }
        if options.contains(.literal) {
            flags = UInt32(PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_LITERAL) | (flags & UInt32(PCRE2_CASELESS))
        }
        if options.contains(.stoppable) { flags |= UInt32(PCRE2_AUTO_CALLOUT) }
        var number: Int32 = 0
        var offset = 0
        let reading = unsafe options.contains(.schema) ? pcre2_compile_context_create_8(nil) : nil
        defer { unsafe pcre2_compile_context_free_8(reading) }
        // What is longer than four digits: `\u{1f600}`.
        if let reading = unsafe reading {
            _ = unsafe pcre2_set_compile_extra_options_8(reading, UInt32(PCRE2_EXTRA_ALT_BSUX))
        }
        var steps = Self.mostSteps
        // SAFETY: PCRE2 reads `bytes.count` bytes and copies what it keeps.
        var compiled = unsafe pcre2_compile_8(bytes, bytes.count, flags, &number, &offset, reading)
        if unsafe compiled == nil, number == PCRE2_ERROR_PATTERN_TOO_LARGE, options.contains(.stoppable) {
            // What is asked meanwhile takes room in the compiled pattern. Without it the pattern fits, and has fewer steps in place
            // of being stopped.
            flags &= ~UInt32(PCRE2_AUTO_CALLOUT)
            steps = Self.fewSteps
            // SAFETY: as above.
            unsafe compiled = unsafe pcre2_compile_8(bytes, bytes.count, flags, &number, &offset, reading)
        }
        guard let code = unsafe compiled else {
            throw RegexError(kind: .syntax, message: Self.text(number), offset: offset)
        }
        guard let context = unsafe pcre2_match_context_create_8(nil) else {
            unsafe pcre2_code_free_8(code)
            throw RegexError(kind: .tooComplex, message: "there is no memory for the pattern", offset: nil)
        }
        unsafe pcre2_set_match_limit_8(context, steps)
        unsafe pcre2_set_depth_limit_8(context, Self.deepest)
        unsafe pcre2_set_heap_limit_8(context, Self.mostMemory)
        unsafe self.code = code
        unsafe self.context = context
    }

    deinit {
        unsafe pcre2_match_context_free_8(context)
        unsafe pcre2_code_free_8(code)
    }

    private static func text(_ number: Int32) -> String {
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = unsafe pcre2_get_error_message_8(number, &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer[..<Int(count)], as: UTF8.self) : "error \(number)"
    }

    /// Whether the pattern is found anywhere in a text.
    ///
    /// - Throws: `tooComplex` when that could not be decided within the bounds.
    package func isFound(in text: String) throws(RegexError) -> Bool {
        var matcher = Matcher(self)
        return try matcher.first(in: Array(text.utf8)[...]) != nil
    }

    /// Looks for one pattern in one text after the other; its memory is used again.
    @safe package struct Matcher: ~Copyable {
        private let regex: BoundedRegex
        private let data: OpaquePointer?
        /// The bounds of the pattern, with what is asked meanwhile; nil where nothing is.
        private let context: OpaquePointer?
        private let watch: MatchWatch?

        /// A matcher of a pattern.
        ///
        /// - Parameters:
        ///   - regex: the pattern, `stoppable` where it is to be stopped.
        ///   - isOver: asked now and then during a match, on the same thread; true ends it. Nil lets it go on.
        package init(_ regex: BoundedRegex, isOver: (() -> Bool)? = nil) {
            self.regex = regex
            unsafe data = unsafe pcre2_match_data_create_8(1, nil)
            watch = isOver.map { MatchWatch($0) }
            guard let watch else {
                unsafe context = nil
                return
            }
            unsafe context = unsafe pcre2_match_context_copy_8(regex.context)
            // SAFETY: this value keeps `watch`, and its matches are all that is given `context`.
            _ = unsafe pcre2_set_callout_8(context, MatchWatch.ask, Unmanaged.passUnretained(watch).toOpaque())
        }

        deinit {
            unsafe pcre2_match_data_free_8(data)
            unsafe pcre2_match_context_free_8(context)
        }

        /// The first place where the pattern is found, as indices of the slice.
        ///
        /// - Throws: `tooComplex` when that could not be decided within the bounds; `stopped`.
        package mutating func first(in bytes: ArraySlice<UInt8>) throws(RegexError) -> Range<Int>? {
            let regex = regex
            let (data, context) = unsafe (data, context ?? regex.context)
            watch?.begin(length: bytes.count)
            // An empty array has no address.
            let code = unsafe (bytes.isEmpty ? [0] : bytes).withUnsafeBufferPointer { buffer in
                // SAFETY: PCRE2 reads `bytes.count` bytes; the match data belongs to this value alone.
                unsafe pcre2_match_8(regex.code, buffer.baseAddress, bytes.count, 0, 0, data, context)
            }
            if code == PCRE2_ERROR_NOMATCH { return nil }
            if code == PCRE2_ERROR_CALLOUT { throw RegexError(kind: .stopped, message: "it was stopped", offset: nil) }
            guard code >= 0, let pair = unsafe pcre2_get_ovector_pointer_8(data) else {
                throw RegexError(kind: .tooComplex, message: BoundedRegex.text(code), offset: nil)
            }
            let (start, end) = unsafe (pair[0], pair[1])
            // With \K in a lookahead the end can lie before the start.
            return bytes.startIndex + min(start, end)..<bytes.startIndex + max(start, end)
        }
    }
}

/// Asks during matches whether they are still wanted.
private final class MatchWatch {
    private let isOver: () -> Bool
    private static let most = 1 << 14
    /// Parts of the pattern that are tried until it is asked again, and after that.
    private var left = most
    private var interval = most

    init(_ isOver: @escaping () -> Bool) { self.isOver = isOver }

    /// A match begins. Each part that is tried may go over the whole text: the longer that is, the more often it is asked.
    func begin(length: Int) {
        interval = max(Self.most * 1024 / max(length, 1024), 1)
        left = min(left, interval)
    }

    private func goesOn() -> Bool {
        left -= 1
        guard left <= 0 else { return true }
        left = interval
        return !isOver()
    }

    /// What PCRE2 calls before each part of a pattern.
    static let ask: @convention(c) (UnsafeMutablePointer<pcre2_callout_block_8>?, UnsafeMutableRawPointer?) -> Int32 = {
        _, raw in
        // SAFETY: the matcher that gave it away is alive while it matches, and no other thread has it.
        let watch = unsafe raw.map { unsafe Unmanaged<MatchWatch>.fromOpaque($0).takeUnretainedValue() }
        return watch?.goesOn() ?? true ? 0 : PCRE2_ERROR_CALLOUT
    }
}
