import SwiftSyntax

/// Walks a file once and collects what breaks a rule.
final class RuleVisitor: SyntaxVisitor {
    private let path: String
    private let converter: SourceLocationConverter
    private let house: House
    private(set) var findings: [Finding] = []
    /// How many types marked `@main` enclose the current node.
    private var mainDepth = 0

    init(path: String, converter: SourceLocationConverter, house: House) {
        self.path = path
        self.converter = converter
        self.house = house
        super.init(viewMode: .sourceAccurate)
    }

    private func report(
        _ node: some SyntaxProtocol, _ rule: String, _ message: String, _ severity: Finding.Severity = .error
    ) {
        let place = converter.location(for: node.positionAfterSkippingLeadingTrivia)
        findings.append(
            Finding(
                path: path, line: place.line, column: place.column, severity: severity, rule: rule, message: message))
    }

    // MARK: Documentation

    /// Every top-level `package`, `public` or `open` declaration has a doc comment.
    func checkDocumentation(of items: CodeBlockItemListSyntax) {
        for item in items {
            if let conditional = item.item.as(IfConfigDeclSyntax.self) {
                for clause in conditional.clauses {
                    if case .statements(let inner)? = clause.elements { checkDocumentation(of: inner) }
                }
                continue
            }
            guard let declaration = item.item.asProtocol((any WithModifiersSyntax).self),
                declaration.modifiers.contains(where: { ["package", "public", "open"].contains($0.name.text) }),
                !item.item.is(ImportDeclSyntax.self),
                !item.leadingTrivia.contains(where: { $0.isDocumentation })
            else { continue }
            report(item, "documentation", "a package or public declaration needs a doc comment")
        }
    }

    // MARK: Imports

    override func visit(_ node: ImportDeclSyntax) -> SyntaxVisitorContinueKind {
        guard let module = node.path.first?.name.text else { return .skipChildren }
        if module == "Foundation" {
            report(node, "imports", "full Foundation costs 50 MB and 3 ms at start; use FoundationEssentials, or none")
        }
        guard let owner = house.owner(of: path), let wanted = house.targets[module] else { return .skipChildren }
        if let from = owner.floor, let to = wanted.floor, to > from {
            report(
                node, "floors",
                "\(owner.name) (\(House.floors[from])) imports \(module), a floor above (\(House.floors[to]))")
        } else if !owner.dependencies.contains(module) {
            report(node, "floors", "\(owner.name) imports \(module), which Package.swift does not declare for it")
        }
        return .skipChildren
    }

    // MARK: Unstructured tasks

    override func visit(_ node: FunctionCallExprSyntax) -> SyntaxVisitorContinueKind {
        let hasClosure =
            node.trailingClosure != nil || node.arguments.contains { $0.expression.is(ClosureExprSyntax.self) }
        guard hasClosure, mainDepth == 0, !path.hasSuffix("/main.swift"), Self.startsTask(node.calledExpression),
            !saysUnstructured(node)
        else { return .visitChildren }
        report(
            node, "structured-concurrency",
            "a bare task outlives its caller: use a task group, or say above it who ends it: '// Unstructured: REASON'")
        return .visitChildren
    }

    /// The few places where structure begins say so above the statement.
    private func saysUnstructured(_ node: FunctionCallExprSyntax) -> Bool {
        var current = Syntax(node).parent
        while let candidate = current, !candidate.is(CodeBlockItemSyntax.self) { current = candidate.parent }
        return current?.leadingTrivia.comments.contains { comment in
            let words = comment.drop { $0 == "/" || $0 == " " }
            return words.hasPrefix("Unstructured") && words.count > "Unstructured: ".count
        } ?? false
    }

    /// `Task`, `Task<A, B>`, `Task.detached`, `Task.immediate`, `Task.immediateDetached`
    private static func startsTask(_ called: ExprSyntax) -> Bool {
        if let member = called.as(MemberAccessExprSyntax.self), let base = member.base {
            return ["detached", "immediate", "immediateDetached", "init"].contains(member.declName.baseName.text)
                && startsTask(base)
        }
        if let generic = called.as(GenericSpecializationExprSyntax.self) { return startsTask(generic.expression) }
        return called.as(DeclReferenceExprSyntax.self)?.baseName.text == "Task"
    }

    private func enter(_ attributes: AttributeListSyntax) { if Self.isMain(attributes) { mainDepth += 1 } }
    private func leave(_ attributes: AttributeListSyntax) { if Self.isMain(attributes) { mainDepth -= 1 } }
    private static func isMain(_ attributes: AttributeListSyntax) -> Bool {
        attributes.contains { $0.as(AttributeSyntax.self)?.attributeName.trimmedDescription == "main" }
    }

    // MARK: Promises to the compiler

    override func visit(_ node: StructDeclSyntax) -> SyntaxVisitorContinueKind {
        enter(node.attributes)
        return .visitChildren
    }
    override func visitPost(_ node: StructDeclSyntax) { leave(node.attributes) }
    override func visit(_ node: EnumDeclSyntax) -> SyntaxVisitorContinueKind {
        enter(node.attributes)
        return .visitChildren
    }
    override func visitPost(_ node: EnumDeclSyntax) { leave(node.attributes) }

    override func visit(_ node: AttributeSyntax) -> SyntaxVisitorContinueKind {
        if node.attributeName.trimmedDescription == "unchecked" { checkReason(node, "@unchecked Sendable") }
        return .visitChildren
    }

    override func visit(_ node: DeclModifierSyntax) -> SyntaxVisitorContinueKind {
        if node.name.text == "nonisolated", node.detail?.detail.text == "unsafe" {
            checkReason(node, "nonisolated(unsafe)")
        }
        return .visitChildren
    }

    /// Words that a reason consists of: what protects the state, or that nothing has to.
    private static let reasons = [
        "sendable", "safety", "unchecked", "lock", "mutex", "thread", "loop", "immutable", "confined", "read-only",
    ]

    /// A comment on the declaration, or on one of its members, says what protects the state.
    private func checkReason(_ node: some SyntaxProtocol, _ what: String) {
        var current = Syntax(node).parent
        while let candidate = current, !candidate.isProtocol((any DeclSyntaxProtocol).self) {
            current = candidate.parent
        }
        guard let declaration = current else { return }
        var comments = declaration.leadingTrivia.comments
        if let group = declaration.asProtocol((any DeclGroupSyntax).self) {
            comments += group.memberBlock.members.flatMap { $0.leadingTrivia.comments }
        }
        let text = comments.joined(separator: " ").lowercased()
        guard !Self.reasons.contains(where: text.contains) else { return }
        report(node, "promises", "\(what) needs a comment that names the lock or thread which protects it")
    }

    // MARK: Traps

    override func visit(_ node: TryExprSyntax) -> SyntaxVisitorContinueKind {
        if node.questionOrExclamationMark?.text == "!" { report(node, "traps", "'try!' traps; handle the error") }
        return .visitChildren
    }
    override func visit(_ node: AsExprSyntax) -> SyntaxVisitorContinueKind {
        if node.questionOrExclamationMark?.text == "!" { report(node, "traps", "'as!' traps; use 'as?'") }
        return .visitChildren
    }
    // Before operators are folded (we have no need to), a cast is this node.
    override func visit(_ node: UnresolvedAsExprSyntax) -> SyntaxVisitorContinueKind {
        if node.questionOrExclamationMark?.text == "!" { report(node, "traps", "'as!' traps; use 'as?'") }
        return .visitChildren
    }

    // MARK: Functions

    override func visit(_ node: FunctionDeclSyntax) -> SyntaxVisitorContinueKind {
        checkLength(node, node.name.text)
        return .visitChildren
    }
    override func visit(_ node: InitializerDeclSyntax) -> SyntaxVisitorContinueKind {
        checkLength(node, "init")
        return .visitChildren
    }
    private func checkLength(_ node: some DeclSyntaxProtocol, _ name: String) {
        let first = converter.location(for: node.positionAfterSkippingLeadingTrivia).line
        let last = converter.location(for: node.endPositionBeforeTrailingTrivia).line
        let lines = last - first + 1
        guard lines > Linter.longFunction else { return }
        report(node, "function-length", "'\(name)' has \(lines) lines, more than \(Linter.longFunction)", .warning)
    }
}

extension TriviaPiece {
    var isDocumentation: Bool {
        switch self {
        case .docLineComment, .docBlockComment: true
        default: false
        }
    }
}

extension Trivia {
    /// The texts of all comments.
    var comments: [String] {
        compactMap { piece in
            switch piece {
            case .lineComment(let text), .blockComment(let text), .docLineComment(let text), .docBlockComment(let text):
                text
            default: nil
            }
        }
    }
}
