import AegisImages
import Glibc

/// The helper roles as a program of their own, for the tests of AegisImages.
@main
enum Main {
    static func main() {
        exit(UnpackHelper.main(Array(CommandLine.arguments.dropFirst())))
    }
}
