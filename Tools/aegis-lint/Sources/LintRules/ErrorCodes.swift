import SwiftParser
import SwiftSyntax

/// The stable codes of errors: those that the sources can say, and those that `docs/troubleshooting.md` explains.
package struct ErrorCodes: Sendable {
    /// Where the codes are explained.
    package static let page = "docs/troubleshooting.md"

    /// The place of each code's first use.
    private var used: [String: Finding] = [:]

    package init() {}

    /// Notes the codes of a file.
    package mutating func add(_ source: String, path: String) {
        let tree = Parser.parse(source: source)
        let visitor = CodeVisitor(viewMode: .sourceAccurate)
        visitor.walk(tree)
        guard !visitor.codes.isEmpty else { return }
        let converter = SourceLocationConverter(fileName: path, tree: tree)
        for (code, position) in visitor.codes where used[code] == nil {
            let place = converter.location(for: position)
            used[code] = Finding(
                path: path, line: place.line, column: place.column, severity: .error, rule: "error-codes",
                message: "'\(code)' does not stand in \(Self.page)")
        }
    }

    /// Codes without an explanation, and explained ones that nothing says.
    ///
    /// - Parameter page: the text of the page; codes stand in backticks in the first column of its tables.
    /// - Returns: findings in order.
    package func compare(with page: String) -> [Finding] {
        var explained: [String: Int] = [:]
        for (index, line) in page.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        where line.hasPrefix("| `") {
            let cell = line.dropFirst().prefix { $0 != "|" }
            for (number, part) in cell.split(separator: "`", omittingEmptySubsequences: false).enumerated()
            where number % 2 == 1 { explained[String(part)] = index + 1 }
        }
        let stale = explained.filter { used[$0.key] == nil }.map { code, line in
            Finding(
                path: Self.page, line: line, column: 1, severity: .error, rule: "error-codes",
                message: "no source has the code '\(code)'")
        }
        return (used.filter { explained[$0.key] == nil }.map(\.value) + stale).sorted()
    }
}

/// Collects the texts that stand where an error's code belongs.
private final class CodeVisitor: SyntaxVisitor {
    private(set) var codes: [(code: String, position: AbsolutePosition)] = []

    override func visit(_ node: FunctionCallExprSyntax) -> SyntaxVisitorContinueKind {
        let name =
            node.calledExpression.as(DeclReferenceExprSyntax.self)?.baseName.text
            ?? node.calledExpression.as(MemberAccessExprSyntax.self)?.declName.baseName.text
        let unlabeled = node.arguments.filter { $0.label == nil }.map(\.expression)
        switch name {
        case "AegisError"? where unlabeled.count >= 3: collect(unlabeled[1])
        case "failed"?, "notFound"?, "conflict"?, "HelperFailure"?:
            if unlabeled.count == 2 { collect(unlabeled[0]) }
        default: break
        }
        return .visitChildren
    }

    /// The words of `struct Code { enum Value: String }`.
    override func visit(_ node: EnumDeclSyntax) -> SyntaxVisitorContinueKind {
        let types = node.inheritanceClause?.inheritedTypes.map { $0.type.trimmedDescription } ?? []
        var above = node.parent
        while let here = above, !here.is(StructDeclSyntax.self) { above = here.parent }
        guard types.contains("String"), above?.as(StructDeclSyntax.self)?.name.text == "Code" else {
            return .visitChildren
        }
        for element in node.memberBlock.members.compactMap({ $0.decl.as(EnumCaseDeclSyntax.self) }).flatMap(\.elements)
        {
            if let value = element.rawValue?.value {
                collect(value)
            } else {
                codes.append((element.name.text, element.positionAfterSkippingLeadingTrivia))
            }
        }
        return .skipChildren
    }

    /// A literal, or both of a choice; what a condition compares with is no code.
    private func collect(_ expression: ExprSyntax) {
        if let choice = expression.as(TernaryExprSyntax.self) {
            collect(choice.thenExpression)
            collect(choice.elseExpression)
        } else if let sequence = expression.as(SequenceExprSyntax.self) {
            // Unfolded: the middle of `a ? b : c` is in the operator, and `c` is the last element.
            for element in sequence.elements {
                if let middle = element.as(UnresolvedTernaryExprSyntax.self) { collect(middle.thenExpression) }
            }
            if let last = sequence.elements.last,
                sequence.elements.contains(where: { $0.is(UnresolvedTernaryExprSyntax.self) })
            {
                collect(last)
            }
        } else if let literal = expression.as(StringLiteralExprSyntax.self), let text = literal.representedLiteralValue
        {
            codes.append((text, literal.positionAfterSkippingLeadingTrivia))
        }
    }
}
