//! Getting to the server: libpq's words when that fails, TLS as `sslmode` has it, poolers.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rex_test_support::pg::Database;
use rex_test_support::pooler::Pooler;
use rex_test_support::proxy::Proxy;
use rex_test_support::server::Server;
use rex_transport::contract::{queue, task};
use rex_transport::{Kind, Options, Owner, TransportError, Wake, open};

use super::{database, host, uri};

fn refusal(address: &str) -> TransportError {
    open(&uri(address), &Options::default()).err().unwrap()
}

#[test]
fn nobody_listens() {
    let error = refusal("pgsql://u:secret@127.0.0.1:1/db");
    assert_eq!(error.kind, Kind::Unreachable);
    assert_eq!(
        error.to_string(),
        "Failed to connect to the Postgres server:\n    connection to server at \"127.0.0.1\", port \
         1 failed: Connection refused\n    \tIs the server running on that host and accepting \
         TCP/IP connections?"
    );
    let error = refusal("pgsql://%2Fnowhere/db").to_string();
    assert!(
        error.contains(
            "connection to server on socket \"/nowhere/.s.PGSQL.5432\" failed: No such file or \
             directory\n"
        ),
        "{error}"
    );
    let error = refusal("pgsql://localhost:1/db").to_string();
    assert!(error.contains("at \"localhost\" (127.0.0.1), port 1 failed: Connection refused"));
    let error = refusal("pgsql://no-such-host.invalid/db").to_string();
    assert!(error.contains("could not translate host name \"no-such-host.invalid\" to address: "));
}

/// What opening it ends with, within a time that no default of the system is as short as.
fn opened(address: &str) -> Result<(), TransportError> {
    let (uri, (tell, told)) = (uri(address), mpsc::channel());
    thread::spawn(move || {
        // Who waits may have given up.
        let _ = tell.send(open(&uri, &Options::default()).map(drop));
    });
    told.recv_timeout(Duration::from_secs(8)).expect("an end of the attempt")
}

/// A server that hangs, or a proxy in front of one: the system makes connections for it.
#[test]
fn nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let socket = tempfile::tempdir().unwrap();
    let _socket = UnixListener::bind(socket.path().join(".s.PGSQL.5432")).unwrap();
    let socket = socket.path().to_str().unwrap();
    let at = format!("at \"127.0.0.1\", port {port}");
    for (address, place) in [
        (format!("pgsql://u@127.0.0.1:{port}/db?connect_timeout=1&sslmode=disable"), at.clone()),
        (format!("pgsql://u@127.0.0.1:{port}/db?connect_timeout=1&sslmode=prefer"), at),
        (
            format!("pgsql://u@{}/db?connect_timeout=1", socket.replace('/', "%2F")),
            format!("on socket \"{socket}/.s.PGSQL.5432\""),
        ),
    ] {
        let error = opened(&address).unwrap_err();
        assert_eq!(error.kind, Kind::Unreachable);
        assert_eq!(
            error.to_string(),
            format!(
                "Failed to connect to the Postgres server:\n    connection to server {place} failed: \
                 timeout expired"
            )
        );
    }
}

#[test]
fn a_host_that_does_not_answer_is_passed_over() {
    let Some(database) = database() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let both = format!("{},{}", silent.local_addr().unwrap(), database.address());
    let address = database.uri().replace(&database.address(), &both);
    opened(&format!("{address}?connect_timeout=1")).unwrap();
}

/// A proxy that lets clients in before it has a server for them.
#[test]
fn nobody_answers_what_is_asked_first() {
    let Some(database) = database() else { return };
    let proxy = Proxy::to(&database.address());
    let address = database.uri().replace(&database.address(), proxy.address());
    let address = format!("{address}?connect_timeout=1");
    for word in ["pg_backend_pid", "BEGIN", "set_config"] {
        proxy.hush_before(word.as_bytes());
        let error = opened(&address).unwrap_err();
        assert_eq!(error.kind, Kind::Unreachable, "{word}");
        let text = error.to_string();
        let lost = "Lost the connection to the Postgres server:\n    timeout expired\nOn:\n";
        assert!(text.starts_with(lost), "{word}: {text}");
        proxy.restore();
    }
    opened(&address).unwrap();
}

#[test]
fn the_server_says_no() {
    let Some(database) = database() else { return };
    let (server, _) =
        database.address().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let address = database.uri().replace(database.name(), "no_such_db");
    let error = refusal(&address);
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.to_string().starts_with(&format!(
        "Failed to connect to the Postgres server:\n    connection to server at \"{server}\", port "
    )));
    assert!(
        error.to_string().ends_with(" failed: FATAL:  database \"no_such_db\" does not exist"),
        "{error}"
    );
}

/// A server where the user `guarded` needs TLS, and a folder with its certificate.
fn tls_server() -> Option<(Server, tempfile::TempDir)> {
    let server = Server::start()?;
    server.sql("postgres", "CREATE ROLE guarded SUPERUSER LOGIN").unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args([
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .arg("-keyout")
        .arg(server.data().join("server.key"))
        .arg("-out")
        .arg(server.data().join("server.crt"))
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: what needs the program openssl");
        return None;
    }
    let owner = fs::metadata(server.data()).unwrap();
    use std::os::unix::fs::{MetadataExt, chown};
    for name in ["server.key", "server.crt"] {
        chown(server.data().join(name), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let settings = server.data().join("postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + "\nssl = on\n").unwrap();
    fs::write(
        server.data().join("pg_hba.conf"),
        "host all rex 127.0.0.1/32 trust\nhostssl all guarded 127.0.0.1/32 trust\n",
    )
    .unwrap();
    server.stop(false);
    server.restart();
    // The data directory is the server's alone.
    let directory = tempfile::tempdir().unwrap();
    fs::copy(server.data().join("server.crt"), directory.path().join("root.crt")).unwrap();
    Some((server, directory))
}

#[test]
fn tls() {
    let Some((server, folder)) = tls_server() else { return };
    let root = folder.path().join("root.crt").display().to_string();
    let database = Database::on(&server);
    let name = database.name().to_owned();
    let at = |host: &str, options: &str| {
        format!("pgsql://guarded@{host}:{}/{name}?{options}", server.port())
    };
    let works = |address: &str| {
        let mut transport = open(&uri(address), &Options::default())
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        transport.submit(&[task("foo", 1)]).unwrap();
    };
    works(&at("127.0.0.1", ""));
    works(&at("127.0.0.1", "sslmode=allow"));
    works(&at("127.0.0.1", "sslmode=require"));
    works(&at("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={root}")));
    works(&at("localhost", &format!("sslmode=verify-full&sslrootcert={root}")));
    // The watch's connection is protected too.
    let mut host = host(&uri(&at("127.0.0.1", "sslmode=require")), "a");
    let (wake, woken) = crossbeam_channel::unbounded();
    let _watch = host.watch(wake).unwrap();
    host.submit(&[task("bar", 1)]).unwrap();
    assert_eq!(
        woken.recv_timeout(std::time::Duration::from_secs(20)).unwrap(),
        Wake::Queue(queue("bar"))
    );

    let refused = |address: &str, text: &str| {
        let error = refusal(address).to_string();
        assert!(error.contains(text), "{address}: {error}");
    };
    refused(&at("127.0.0.1", "sslmode=disable"), "no pg_hba.conf entry");
    let full = format!("sslmode=verify-full&sslrootcert={root}");
    refused(&at("127.0.0.1", &full), "certificate");
    refused(&at("localhost", "sslmode=verify-full&sslrootcert=/none.crt"), "does not exist");
    refused(&at("localhost", "sslmode=verify-full&sslrootcert=system"), "certificate");
}

/// Makes in `$1`: an authority (`ca.crt`), certificates of it for localhost (`v3.crt`, and `v1.crt`
/// as the PostgreSQL manual makes one), all with the key `server.key`, and a list that revokes
/// `v3.crt` (`crl.pem`).
const AUTHORITY: &str = r#"
cd "$1"
exec 2>log
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca \
    -keyout ca.key -out ca.crt -addext keyUsage=keyCertSign,cRLSign
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
    -keyout server.key -out server.csr
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out v1.crt
echo subjectAltName=DNS:localhost > names
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -days 2 -extfile names -out v3.crt
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=2\ncrlnumber=number\ncrl_extensions=e\n' > ca.cnf
printf '[e]\nauthorityKeyIdentifier=keyid\n' >> ca.cnf
touch index
echo 01 > number
openssl ca -config ca.cnf -keyfile ca.key -cert ca.crt -gencrl -out none.pem
openssl ca -config ca.cnf -keyfile ca.key -cert ca.crt -revoke v3.crt
openssl ca -config ca.cnf -keyfile ca.key -cert ca.crt -gencrl -out crl.pem
"#;

#[test]
fn tls_with_an_authority() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("bash").args(["-ec", AUTHORITY, "bash"]).arg(folder.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        assert!(Command::new("openssl").arg("version").output().is_err(), "the script fails");
        eprintln!("NOT RUN: what needs the program openssl");
        return;
    }
    let data = server.data();
    let owner = fs::metadata(&data).unwrap();
    let install = |certificate: &str| {
        for (from, to) in [(certificate, "server.crt"), ("server.key", "server.key")] {
            fs::copy(folder.path().join(from), data.join(to)).unwrap();
            fs::set_permissions(data.join(to), fs::Permissions::from_mode(0o600)).unwrap();
            chown(data.join(to), Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        server.stop(false);
        server.restart();
    };
    let settings = data.join("postgresql.conf");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + "\nssl = on\n").unwrap();
    install("v3.crt");
    let database = Database::on(&server);
    let at = |options: &str| {
        let options = options.replace('@', &format!("{}/", folder.path().display()));
        format!("pgsql://rex@localhost:{}/{}?{options}", server.port(), database.name())
    };
    let works = |options: &str| {
        open(&uri(&at(options)), &Options::default())
            .unwrap_or_else(|error| panic!("{options}: {error}"));
    };
    works("sslmode=verify-full&sslrootcert=@ca.crt");
    works("sslmode=verify-full&sslrootcert=@ca.crt&sslcrl=@none.pem");
    let error = refusal(&at("sslmode=verify-full&sslrootcert=@ca.crt&sslcrl=@crl.pem")).to_string();
    assert!(error.contains("Revoked"), "{error}");
    let error = refusal(&at("sslmode=verify-full&sslrootcert=@ca.crt&sslcrl=@ca.key")).to_string();
    assert!(error.contains("certificate revocation list"), "{error}");
    let own = "sslmode=verify-full&sslrootcert=@ca.crt&sslcert=@v3.crt&sslkey=@server.key";
    let key = folder.path().join("server.key");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let error = refusal(&at(own)).to_string();
    assert!(error.contains("has group or world access"), "{error}");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    works(own);
    install("v1.crt");
    works("sslmode=require");
}

#[test]
fn a_password_file_that_others_may_read_is_told() {
    let Some(server) = Server::start() else { return };
    server.sql("postgres", "CREATE ROLE guarded SUPERUSER LOGIN PASSWORD 'sesame'").unwrap();
    let rules = "host all rex 127.0.0.1/32 trust\nhost all guarded 127.0.0.1/32 scram-sha-256\n";
    fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
    server.stop(false);
    server.restart();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    fs::write(&file, "*:*:*:guarded:sesame\n").unwrap();
    let port = server.port();
    let address = format!("pgsql://guarded@127.0.0.1:{port}/postgres?passfile={}", file.display());
    let mode = |mode| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let error = refusal(&address).to_string();
    assert!(error.contains("group or world access"), "{error}");
    mode(0o600);
    open(&uri(&address), &Options::default()).unwrap();
}

#[test]
fn a_transaction_pooler_is_refused() {
    let Some(server) = Server::start() else { return };
    let database = Database::on(&server);
    for (mode, works) in [("transaction", false), ("statement", false), ("session", true)] {
        let Some(pooler) = Pooler::start(&server, mode) else { return };
        let owner = || Some(Owner { id: mode.to_owned() });
        // Nothing is left there that the next one finds.
        for owner in [None, owner(), None, owner()] {
            let options = Options { owner, ..Options::default() };
            match open(&uri(&pooler.uri(database.name())), &options) {
                Ok(_) => assert!(works, "{mode}"),
                Err(error) => {
                    assert!(!works, "{mode}: {error}");
                    assert_eq!(error.kind, Kind::Config, "{error}");
                    assert!(error.text.contains("pools transactions"), "{error}");
                    let made = "SELECT FROM asynctask.asynctask_queue";
                    assert!(server.sql(database.name(), made).is_err(), "{mode}");
                }
            }
        }
    }
}
