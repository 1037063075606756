import AegisIO
import Foundation

@main
enum Main {
    static func main() throws { print("bench") }
}
