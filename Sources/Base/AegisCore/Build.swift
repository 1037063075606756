/// What was built.
package enum Build {
    /// The release, as `aegis version` and `aegis status` tell it.
    package static let version = "0.1.0"
}
