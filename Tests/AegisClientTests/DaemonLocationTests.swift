import AegisClient
import Testing

@Suite struct DaemonLocationTests {
    @Test func aSetHomeHoldsItsSocket() {
        let location = DaemonLocation(aegisHome: "/srv/a/", userHome: "/root", user: 0, workingDirectory: "/")
        #expect(location.home == "/srv/a" && location.candidates == ["/srv/a/aegisd.sock"])
        #expect(location.pidFile == "/srv/a/aegisd.pid" && location.logFile == "/srv/a/aegisd.log")
    }

    @Test func aRelativeHomeStartsAtTheWorkingDirectory() {
        let location = DaemonLocation(aegisHome: "x", userHome: nil, user: 7, workingDirectory: "/w")
        #expect(location.home == "/w/x" && location.socket == "/w/x/aegisd.sock")
        let dotted = DaemonLocation(aegisHome: "./a//b/../c/", userHome: nil, user: 0, workingDirectory: "/w")
        #expect(dotted.home == "/w/a/b/../c")
    }

    @Test func rootLivesInTheSystemsPlaces() {
        let location = DaemonLocation(aegisHome: nil, userHome: "/root", user: 0, workingDirectory: "/")
        #expect(location.home == "/var/lib/aegis" && location.socket == "/run/aegis/aegisd.sock")
        #expect(location.candidates == ["/root/.aegis/aegisd.sock", "/run/aegis/aegisd.sock"])
    }

    @Test func othersHaveTheirOwnAndThenTheMachines() {
        let location = DaemonLocation(aegisHome: "", userHome: "/home/u", user: 1000, workingDirectory: "/")
        #expect(location.home == "/home/u/.aegis" && location.socket == "/home/u/.aegis/aegisd.sock")
        #expect(location.candidates == ["/home/u/.aegis/aegisd.sock", "/run/aegis/aegisd.sock"])
    }
}
