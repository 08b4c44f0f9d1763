//! Why Postgres does not do what it is asked: in words, and with what to do about just that. The words of the service that waits for
//! Postgres are the same for all causes; a person needs this one's.

use std::fmt;

use serde::Serialize;
use sqlx::postgres::PgDatabaseError;

use super::session::SessionRefused;

/// Why it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The SQLSTATE, where Postgres itself has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// What was said: by Postgres, or by the way to it.
    pub said: String,
    /// What to do about it; none where no more is known than that it fails.
    #[serde(skip)]
    pub cure: Option<&'static str>,
}

impl Cause {
    /// No answer came in time.
    pub fn timed_out() -> Self {
        Self { sqlstate: None, said: "no answer in time".into(), cure: Some(TIMED_OUT) }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        self.sqlstate.as_ref().map_or(Ok(()), |code| write!(f, ", SQLSTATE {code}"))
    }
}

/// The cause of a failure.
pub fn cause(error: &sqlx::Error) -> Cause {
    let sqlstate = error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(Into::into);
    let said =
        error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let routine = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .and_then(PgDatabaseError::routine);
    let cure = sqlstate.as_deref().map_or_else(
        || by_transport(error),
        |code| {
            by_pooler(&said)
                .or_else(|| (code == "53300").then(|| used_up(routine, &said)))
                .or_else(|| by_sqlstate(code))
        },
    );
    Cause { sqlstate, said, cure }
}

const TIMED_OUT: &str = "see whether it is overloaded or its disk stands still (its own log, pg_stat_activity), who holds a lock \
                         (pg_locks), whether a pooler has no server connection to give (PgBouncer: pool_size), and whether a firewall \
                         between here and there drops packets";

fn by_sqlstate(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" | "28000" => {
            "Postgres refuses the login: put the present user and password into DATABASE_URL (its file is read again by itself and on \
             SIGHUP; a variable needs a restart), and see pg_hba.conf of the server"
        }
        "3D000" => "there is no such database: see the name at the end of DATABASE_URL, or create it",
        "26000" | "42P05" | "08P01" => MIXED_SESSIONS,
        "53100" => {
            "there is no room on the disk of Postgres: free some or enlarge it (the folder of data and that of pg_wal; old logs, \
             forgotten replication slots); it goes on by itself"
        }
        "53200" => {
            "Postgres has no memory left: see what else runs there, and its work_mem and max_connections"
        }
        "58030" => {
            "Postgres cannot read or write its files: see the disk and the log of the kernel on that machine"
        }
        "25006" => {
            "it takes no writes: a standby (point DATABASE_URL at the primary), or one that was set to read only (a full disk, most \
             likely)"
        }
        "42501" => {
            "our role lacks a permission: run `vobiz-cdr migrate apply` as the owner of the schema, or grant what is named"
        }
        "55P03" | "57014" => {
            "somebody holds a lock for too long: see pg_locks and pg_stat_activity (pg_blocking_pids) for who, and end that session \
             (pg_terminate_backend), unless it is one of ours (its application_name begins with vobiz-cdr), which ends by itself"
        }
        "23514" => "no partition takes the row: `vobiz-cdr migrate apply` makes it, or says why not",
        "57P03" => {
            "Postgres starts, recovers or goes down: its own log says how far it is; it goes on by itself"
        }
        "57P01" | "57P02" => "Postgres went down or ended our session: see its own log; it goes on by itself",
        _ => return None,
    })
}

/// What to do where the answers to one session come to another.
pub const MIXED_SESSIONS: &str = "prepared statements and settings of our sessions are not where we left them: a pooler between us and \
    Postgres mixes sessions. Give this database pool_mode = session there (PgBouncer: pgbouncer.ini, then RELOAD and RECONNECT, or a start may \
    still meet what others prepared), or let DATABASE_URL name \
    Postgres itself; it goes on by itself";

/// What a pooler says for itself, whatever SQLSTATE it gives (`PgBouncer`: mostly 08P01). It passes on what Postgres said, too.
fn by_pooler(said: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    Some(if says(&["max_client_conn", "no more connections allowed"]) {
        "the pooler takes no more clients, of all its databases: raise max_client_conn of PgBouncer (and its limit of open files); each \
         process of ours needs up to sixteen"
    } else if says(&["max_user_client_connections", "max_db_client_connections"]) {
        "the pooler takes no more clients of this user or database: raise what is named in PgBouncer (max_user_client_connections, \
         max_db_client_connections); each process of ours needs up to sixteen"
    } else if says(&["query_wait_timeout"]) {
        "the pooler has no server connection to give: raise pool_size of this database (default_pool_size), and max_db_connections and \
         max_user_connections where they are set, of PgBouncer; in session mode each of our connections, up to sixteen a process, keeps one"
    } else if says(&["too many clients already"]) {
        MAX_CONNECTIONS
    } else if says(&["server login has been failing", "cannot connect to server", "server_login_retry"]) {
        "the pooler is there and does not reach Postgres: see its own log for what Postgres said to it, and host, port and login of this \
         database in its settings"
    } else {
        return None;
    })
}

const MAX_CONNECTIONS: &str = "all connections of the server are taken (its max_connections): see pg_stat_activity for who has them and end \
    who needs none, or raise max_connections, which needs a restart of Postgres, or put a pooler in session mode in front; each process of \
    ours needs up to sixteen";

/// Which limit of Postgres is hit. By the place in its code, since its words follow `lc_messages`; by the words where that is not known.
fn used_up(routine: Option<&str>, said: &str) -> &'static str {
    let says = |word: &str| said.contains(word);
    match routine {
        Some("InitializeSessionUserId") => ROLE_LIMIT,
        Some("CheckMyDatabase") => DATABASE_LIMIT,
        Some("InitPostgres") => RESERVED,
        _ if says("connections for role") => ROLE_LIMIT,
        _ if says("connections for database") => DATABASE_LIMIT,
        _ if says("reserved") => RESERVED,
        _ => MAX_CONNECTIONS,
    }
}

const ROLE_LIMIT: &str = "the limit of our role is used up, not that of the server: `alter role NAME connection limit N` (-1 is none), or end \
    other sessions of this role (pg_stat_activity); each process of ours needs up to sixteen";
const DATABASE_LIMIT: &str = "the limit of this database is used up, not that of the server: `alter database NAME connection limit N` (-1 is \
    none), or end other sessions in it (pg_stat_activity); each process of ours needs up to sixteen";
const RESERVED: &str = "all connections of the server are taken but those that it reserves (max_connections less \
    superuser_reserved_connections and reserved_connections): see pg_stat_activity for who has them and end who needs none, or raise \
    max_connections, which needs a restart of Postgres; each process of ours needs up to sixteen";

fn by_transport(error: &sqlx::Error) -> Option<&'static str> {
    if let sqlx::Error::Configuration(why) = error {
        return matches!(why.downcast_ref(), Some(SessionRefused::Shared)).then_some(MIXED_SESSIONS);
    }
    if let sqlx::Error::Io(error) = error {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => return Some(REFUSED),
            std::io::ErrorKind::NotFound => return Some(NO_FILE),
            std::io::ErrorKind::TimedOut
            | std::io::ErrorKind::HostUnreachable
            | std::io::ErrorKind::NetworkUnreachable => return Some(TIMED_OUT),
            _ => {}
        }
    }
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Some(TIMED_OUT);
    }
    let said = error.to_string().to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["unsupportedcertversion"]) {
        return Some(VERSION_1);
    }
    if says(&["no such file", "client.crt", "root.crt"]) {
        return Some(NO_FILE);
    }
    if says(&["certificate", "tls", "ssl", "handshake"]) {
        return Some(
            "the certificate of Postgres is not believed, or it speaks no TLS: see sslmode and sslrootcert (the file of the authority \
             that signed it) in DATABASE_URL, that the host there is the one the certificate names, its dates, and this machine's clock",
        );
    }
    if says(&["lookup", "resolve", "name or service", "name resolution"]) {
        return Some(
            "the host in DATABASE_URL is not found: see it for a slip, and the DNS of this machine (`getent hosts NAME`)",
        );
    }
    None
}

const REFUSED: &str = "nothing takes connections at that address: start Postgres, and see host and port in DATABASE_URL and its listen_addresses";

const NO_FILE: &str = "a file that DATABASE_URL names is not there or cannot be read by this user: the files of sslrootcert, sslcert and \
                       sslkey (also PGSSLROOTCERT, PGSSLCERT, PGSSLKEY), or the folder of the socket (host=/…)";

const VERSION_1: &str = "the certificate of Postgres is of X.509 version 1, which carries no names and is not taken (`openssl req -x509` \
                         without extensions, or `openssl x509 -req` without -extfile makes such): make one of version 3 with subjectAltName \
                         (`openssl x509 -req … -extfile FILE` with `subjectAltName=DNS:HOST`) and put it where ssl_cert_file of the server \
                         says. No sslmode that encrypts takes one of version 1; on a network that is trusted, sslmode=disable does without";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_cure_of_its_own() {
        let io = |kind, said: &str| sqlx::Error::Io(std::io::Error::new(kind, said.to_owned()));
        for (error, cure) in [
            (io(std::io::ErrorKind::ConnectionRefused, "refused"), "nothing takes connections"),
            (
                io(std::io::ErrorKind::NotFound, "No such file or directory (os error 2)"),
                "sslrootcert, sslcert",
            ),
            (
                io(std::io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer"),
                "is not believed",
            ),
            (
                io(
                    std::io::ErrorKind::InvalidData,
                    "invalid peer certificate: Other(OtherError(UnsupportedCertVersion))",
                ),
                "X.509 version 1",
            ),
            (
                io(
                    std::io::ErrorKind::Other,
                    "failed to lookup address information: Name or service not known",
                ),
                "is not found",
            ),
            (sqlx::Error::PoolTimedOut, "who holds a lock"),
        ] {
            let found = cause(&error);
            assert!(found.cure.is_some_and(|found| found.contains(cure)), "{error}: {found:?}");
        }
        assert_eq!(cause(&sqlx::Error::RowNotFound).cure, None);
        for (routine, said, limit) in [
            (Some("InitializeSessionUserId"), "zu viele Verbindungen", "alter role"),
            (None, "too many connections for role \"vobiz_app\"", "alter role"),
            (Some("CheckMyDatabase"), "trop de connexions", "alter database"),
            (None, "too many connections for database \"cdr\"", "alter database"),
            (Some("InitPostgres"), "verbleibende", "reserved_connections"),
            (
                None,
                "remaining connection slots are reserved for roles with the SUPERUSER attribute",
                "reserved_connections",
            ),
            (Some("ProcArrayAdd"), "sorry, too many clients already", "(its max_connections)"),
            (Some("ProcessStartupPacket"), "tut mir leid", "(its max_connections)"),
        ] {
            assert!(used_up(routine, said).contains(limit), "{routine:?} {said}");
        }
        for (said, limit) in [
            ("no more connections allowed (max_client_conn)", "raise max_client_conn"),
            ("client connections exceeded (max_user_client_connections)", "max_user_client_connections"),
            ("query_wait_timeout", "default_pool_size"),
            ("sorry, too many clients already (server_login_retry)", "(its max_connections)"),
            (
                "server login has been failing, try again later (server_login_retry)",
                "does not reach Postgres",
            ),
        ] {
            assert!(by_pooler(said).is_some_and(|cure| cure.contains(limit)), "{said}");
        }
        assert_eq!(by_pooler("bind message supplies 3 parameters, but prepared statement requires 1"), None);
        let shared = sqlx::Error::Configuration(Box::new(SessionRefused::Shared));
        assert_eq!(cause(&shared).cure, Some(MIXED_SESSIONS));
        for code in ["26000", "42P05", "08P01"] {
            assert_eq!(by_sqlstate(code), Some(MIXED_SESSIONS));
        }
        for code in ["28P01", "53100", "25006", "55P03", "42501", "57P03", "3D000"] {
            assert!(by_sqlstate(code).is_some(), "{code}");
        }
    }
}
