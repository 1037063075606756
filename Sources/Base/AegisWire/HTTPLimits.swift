/// Bounds on what a parser keeps of a message before it gives up; all in bytes unless said otherwise.
package struct HTTPLimits: Sendable, Equatable {
    /// The start line without its end.
    package var startLine = 8 << 10
    /// The header section with its line ends.
    package var headerSection = 32 << 10
    /// Number of fields in the header section.
    package var fields = 128
    /// The trailer section with its line ends.
    package var trailerSection = 8 << 10
    /// Number of fields in the trailer section.
    package var trailerFields = 32
    /// One chunk-size line with its extensions, without its end.
    package var chunkLine = 1 << 10
    /// What chunk-size lines may take in all beyond the data that they announce.
    package var chunkOverhead = 16 << 10
    /// Number of parameters in a query.
    package var queryParameters = 128

    /// The bounds that Aegis uses unless told otherwise.
    package init() {}
}
