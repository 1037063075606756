/// What this build is.
package enum Build {
    /// The release, as `aegis version` prints it.
    package static let version = "0.1.0"
}
