import AegisConfig
import AegisCore
import Testing

/// What a configuration may say of the place of the records.
@Suite struct DatabaseURLTests {
    @Test(arguments: [
        ("sqlite", nil), ("sqlite:", nil), ("sqlite:///srv/records/aegis.db", "/srv/records/aegis.db"),
        ("sqlite:////srv/aegis.db", "/srv/aegis.db"), ("sqlite:/srv/aegis.db", "/srv/aegis.db"),
        ("sqlite:records/aegis.db", "records/aegis.db"), ("/srv/100%/aegis.db", "/srv/100%/aegis.db"),
        ("memory.db", "memory.db"), ("./memory", "./memory"),
    ])
    func aPlaceIsAFile(_ text: String, _ path: String?) {
        let url = DatabaseURL(configText: text)
        #expect(url.problem == nil && url.path == path, "\(url)")
    }

    @Test(arguments: [
        ("postgresql://u:p@h/d", "is 'postgresql'"), ("mysql:x", "is 'mysql'"), ("file:dev.db", "is 'file'"),
        ("sqlite://dev.db", "names a host"), ("sqlite:///a.db?mode=ro", "has '?'"), ("sqlite:a%20b.db", "has '?'"),
        ("sqlite::memory:", "is memory"), ("sqllite", "is neither"), ("/srv/records/", "is not the path of a file"),
        ("host=db user=u password=p", "is a connection string"), ("sqlite:../aegis.db", "is not the path of a file"),
        ("/a\u{1}/b", "is not the path of a file"),
    ])
    func whatIsNoneSaysWhatWouldBe(_ text: String, _ words: String) {
        let url = DatabaseURL(configText: text)
        let problem = url.problem ?? ""
        #expect(url.path == nil && problem.hasPrefix(words), "\(url)")
        #expect(problem.contains("give sqlite, sqlite:///ABSOLUTE/FILE, sqlite:RELATIVE/FILE or a path"), "\(url)")
    }

    @Test(arguments: [
        ("postgresql://aegis:pass@word@localhost:5432/aegis", "postgresql://•••@localhost:5432/aegis"),
        ("mysql://h/d?password=x", "mysql://h/d?•••"), ("postgres://h/d", "postgres://h/d"), ("sqllite", "sqllite"),
        ("host=/run/postgresql user=u password=p", "•••"),
    ])
    func messagesShowNoPassword(_ text: String, _ shown: String) throws {
        #expect(DatabaseURL.quotable(text) == shown)
        let configuration = try Configuration(file: nil, environment: ["DATABASE_URL": text])
        _ = configuration.section(Section.self)
        let error = #expect(throws: AegisError.self) { try configuration.finish() }
        #expect(error?.message.hasSuffix("found '\(shown)'") == true, "\(String(describing: error))")
    }

    private struct Section: ConfigSection {
        static let key = "database"
        init(from reader: ConfigReader) {
            _ = reader.read("url", default: DatabaseURL(configText: "sqlite"), variables: ["DATABASE_URL"]) {
                $0.problem
            }
        }
    }
}
