use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> RedisUrl {
    text.parse().unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

/// The user and the password of `text`.
fn login(text: &str) -> (Option<String>, Option<String>) {
    let credentials = parsed(text).credentials;
    let user = credentials.as_ref().and_then(|credentials| credentials.user.clone());
    (user, credentials.map(|credentials| credentials.password))
}

#[test]
fn urls_of_every_deployment_are_read() {
    let cases = [
        ("redis://localhost", "redis://localhost:6379", 0, "tg:"),
        ("redis://u:p@h:1/3?prefix=x%3A", "redis://h:1", 3, "x:"),
        ("rediss://[::1]:7/", "rediss://[::1]:7", 0, "tg:"),
        ("redis://[fe80::A]", "redis://[fe80::a]:6379", 0, "tg:"),
        ("redis-sentinel://a,b:2/main/4", "redis-sentinel://a:26379,b:2", 4, "tg:"),
        ("redis-cluster://a:1,b:2?prefix=", "redis-cluster://a:1,b:2", 0, ""),
        ("rediss-cluster://a:1,[::2]", "rediss-cluster://a:1,[::2]:6379", 0, "tg:"),
        ("redis://h?db=5", "redis://h:6379", 5, "tg:"),
        ("valkey://h/2", "valkey://h:6379", 2, "tg:"),
        ("valkeys://h", "valkeys://h:6379", 0, "tg:"),
        ("valkey-sentinel://h/main", "valkey-sentinel://h:26379", 0, "tg:"),
        ("valkeys-sentinel://h/main", "valkeys-sentinel://h:26379", 0, "tg:"),
        ("rediss-sentinel://h/main?db=1", "rediss-sentinel://h:26379", 1, "tg:"),
        ("valkey-cluster://h", "valkey-cluster://h:6379", 0, "tg:"),
        ("valkeys-cluster://h/0", "valkeys-cluster://h:6379", 0, "tg:"),
        ("redis+unix:///run/r.sock?db=3", "redis+unix:///run/r.sock", 3, "tg:"),
        ("unix:///run/r%20s.sock?prefix=p", "redis+unix:///run/r s.sock", 0, "p"),
        ("valkey+unix://:p@/run/v.sock", "valkey+unix:///run/v.sock", 0, "tg:"),
        ("REDIS://LocalHost\n", "redis://localhost:6379", 0, "tg:"),
        (" \tredis://h/1 \r\n", "redis://h:6379", 1, "tg:"),
    ];
    for (text, shown, database, prefix) in cases {
        let url = parsed(text);
        assert_eq!(url.to_string(), shown, "{text}");
        assert_eq!((url.database, url.prefix.as_str()), (database, prefix), "{text}");
    }
}

#[test]
fn a_master_may_have_any_name() {
    let url = parsed("redis-sentinel://h/my%2Fm%40ster");
    assert_eq!(url.deployment, Deployment::Sentinel { master: "my/m@ster".to_owned() });
}

#[test]
fn a_login_is_read_encoded_and_as_it_is() {
    let cases = [
        ("redis://h", None, None),
        ("redis://@h", None, None),
        ("redis://:@h", None, None),
        ("redis://u@h", Some("u"), Some("")),
        ("redis://u:@h", Some("u"), Some("")),
        ("redis://:p%40ss@@h", None, Some("p@ss@")),
        ("redis://u%3Av:a:b@h", Some("u:v"), Some("a:b")),
        ("redis://u:%2f%3F%23%25%0a@h", Some("u"), Some("/?#%\n")),
        ("redis://u:100%@h", Some("u"), Some("100%")),
        ("redis://u:%zz%@h", Some("u"), Some("%zz%")),
        ("redis://:p@SECRET:w?x@h:1", None, Some("p@SECRET:w?x")),
        ("redis://u:a/b#c?d@h/1", Some("u"), Some("a/b#c?d")),
        ("redis://u:a\nb c@h", Some("u"), Some("a\nb c")),
        ("redis://me@corp:p@h", Some("me@corp"), Some("p")),
        ("redis://:pässwörd€@h", None, Some("pässwörd€")),
        ("redis-sentinel://u:1/2@h:1/main", Some("u"), Some("1/2")),
        ("redis-cluster://u:a,b@h,i", Some("u"), Some("a,b")),
        ("unix://:a/b@/run/r.sock", None, Some("a/b")),
    ];
    for (text, user, password) in cases {
        let expected = (user.map(str::to_owned), password.map(str::to_owned));
        assert_eq!(login(text), expected, "{text}");
    }
}

#[test]
fn options_are_read() {
    let text = "rediss-sentinel://u:p@h/main?sentinel_user=s&sentinel_password=p%26%40&ca=/a%20b.pem&cert=c&key=k&";
    let url = parsed(text);
    let credentials = url.sentinel_credentials.unwrap();
    assert_eq!((credentials.user.as_deref(), &*credentials.password), (Some("s"), "p&@"));
    let file = |path: &str| Some(PathBuf::from(path));
    let files = TlsFiles { authorities: file("/a b.pem"), certificate: file("c"), key: file("k") };
    assert_eq!(url.transport, Transport::Tls(files));
    let url = parsed("redis-sentinel://h/main?sentinel_password=p@s+s");
    assert_eq!(url.sentinel_credentials.unwrap().password, "p@s+s");
}

#[test]
fn a_wrong_url_is_named_without_its_password() {
    let ways = "it can be read in two ways: ";
    let cases = [
        ("localhost", "it has no `://`"),
        ("redis:secret@h", "it has no `://`"),
        ("http://u:secret@h", "its scheme is unknown"),
        ("rediss+unix://u:secret@/h", "its scheme is unknown"),
        ("redis://u:secret@", "the host is empty"),
        ("redis://u:secret@:1", "the host is empty"),
        ("redis-cluster://u:secret@h,", "host 2 is empty"),
        ("redis://u:secret@h h", "the host is neither a host name nor an IP address"),
        ("redis://u:secret@[::1", "the host is neither a host name nor an IP address"),
        ("redis://u:secret@::1", "the host is empty"),
        ("redis://u:secret@h:x", "the port of the host is not 1 to 65535"),
        ("redis://u:secret@h:0", "the port of the host is not 1 to 65535"),
        ("redis://u:secret@h:+1", "the port of the host is not 1 to 65535"),
        ("redis://u:secret@h:", "the port of the host is not 1 to 65535"),
        ("redis-cluster://u:secret@h,i:70000", "the port of host 2 is not 1 to 65535"),
        ("redis://u:secret@h/x", "its database is not a number"),
        ("redis://u:secret@h/-1", "its database is not a number"),
        ("redis://u:secret@h/1/2", "its database is not a number"),
        ("redis://u:secret@h?db=", "its database is not a number"),
        ("redis://u:secret@h/1?db=1", "it has its database in the path and as `db`"),
        ("redis://u:secret@a,b", "it has 2 hosts"),
        ("redis://u:secret%zz%20@h", "its password is only partly percent-encoded"),
        ("redis://u:secret%ff@h", "its password is not percent-encoded UTF-8"),
        ("redis-sentinel://u:secret@h", "the name of the master is missing after the Sentinels"),
        ("redis-sentinel://u:secret@h/", "the name of the master is missing after the Sentinels"),
        ("redis-cluster://u:secret@h/1", "a Cluster has only the database 0"),
        ("redis-cluster://u:secret@h?db=1", "a Cluster has only the database 0"),
        ("redis://u:secret@h?timeout=secret", "option 1 after its `?` is not one of prefix, db"),
        ("redis://u:secret@h?db=1&secret", "option 2 after its `?` is not one of prefix, db"),
        ("redis://u:secret@h?prefix=secret&prefix=b", "it has the option `prefix` twice"),
        ("redis://u:secret@h?prefix={", "its prefix is not 0 to 64 bytes without { and }"),
        ("redis://u:secret@h?prefix=%ff", "its option `prefix` is not percent-encoded UTF-8"),
        ("redis://u:secret@h#secret", "it has a `#` after the login; write %23 instead"),
        ("redis://u:secret@h?ca=secret", "it has `ca` without TLS; use rediss://…"),
        ("valkey://u:secret@h?key=k", "it has `key` without TLS; use valkeys://…"),
        ("rediss://u:secret@h?cert=secret", "it has `cert` without `key`"),
        ("rediss://u:secret@h?key=secret", "it has `key` without `cert`"),
        ("rediss://u:secret@h?ca=", "its `ca` names no file"),
        ("redis://u:secret@h?sentinel_password=secret", "it has `sentinel_user` or"),
        ("redis-sentinel://h/m?sentinel_user=secret", "it has `sentinel_user` without"),
        ("unix://u:secret@h/r.sock", "a Unix socket has no host"),
        ("unix://u:secret@", "it names no Unix socket"),
        ("unix:///", "it names no Unix socket"),
        ("unix:///secret@r", "it has an `@` after its hosts; write %40 instead"),
        ("redis-sentinel://secret/b@h:1", "it has an `@` after its hosts; write %40 instead"),
        ("redis://u:12?prefix=secret@h", ways),
        ("redis://u:12?prefix=secret@h:x", ways),
        ("redis://u:secret@h/0?prefix=a@b", ways),
        ("redis://secret@h/0?prefix=a@b", ways),
    ];
    for (text, expected) in cases {
        let problem = text.parse::<RedisUrl>().unwrap_err();
        assert!(problem.problem().starts_with(expected), "{text}: {problem}");
        let said = format!("{problem} {problem:?}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn an_accepted_url_shows_no_login() {
    let text =
        "redis-sentinel://secret-u:secret-p@h/m?sentinel_user=secret-v&sentinel_password=secret-q";
    let url = parsed(text);
    assert!(!format!("{url:?} {url} {:?}", url.credentials).contains("secret"));
}

/// Whether `said` contains four consecutive characters of `secret`.
fn tells(said: &str, secret: &str) -> bool {
    let characters: Vec<_> = secret.chars().collect();
    characters.windows(4).any(|four| said.contains(&four.iter().collect::<String>()))
}

/// Any characters, such that four consecutive ones include one that no message contains on its own.
const SECRET: &str = "([QXZ]{1,4}[0-9@:/?#%\\[\\],&= \\n]{0,3}){2,8}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// A secret in the place of the password or the user, in a URL that is then mangled anywhere: no part of it is
    /// shown, whether the URL is accepted or not.
    #[test]
    fn no_piece_of_a_secret_is_told(
        secret in SECRET,
        head in "(redis|rediss|valkey-cluster|redis-sentinel|redis\\+unix|unix|http)?(://|:/|:)(u:|:|)",
        tail in "@(h|h:1|h:x|h,i|h h|\\[::1\\]|\\[::1|)(/|/0|/m|/m/1|/x|)(\\?|\\?prefix=p|\\?db=1|\\?x=1|\\?ca=c|#|)\\n?",
    ) {
        let text = format!("{head}{secret}{tail}");
        let said = match text.parse::<RedisUrl>() {
            Ok(url) => format!("{url} {url:?}"),
            Err(problem) => format!("{problem} {problem:?}"),
        };
        prop_assert!(!tells(&said, &secret), "{text:?}: {said}");
    }

    /// Any percent-encoded password is decoded correctly, in every place for a password.
    #[test]
    fn an_encoded_password_is_read_back(password in "\\PC{1,24}|[\\x01-\\x7f]{1,24}") {
        let encoded: Vec<_> = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = encoded.concat();
        let text = format!("redis-sentinel://u:{encoded}@h:1/m/2?sentinel_password={encoded}");
        let url = parsed(&text);
        prop_assert_eq!(&url.credentials.unwrap().password, &password);
        prop_assert_eq!(&url.sentinel_credentials.unwrap().password, &password);
    }

    /// A raw password is used unchanged or refused; it is never changed, unless it looks percent-encoded.
    #[test]
    fn a_raw_password_is_read_as_it_is_or_refused(password in "[!-$&-~]{1,24}") {
        for text in [format!("redis://u:{password}@h:1/2"), format!("redis-sentinel://u:{password}@h/m")] {
            if let Ok(url) = text.parse::<RedisUrl>() {
                prop_assert_eq!(&url.credentials.unwrap().password, &password, "{}", text);
                prop_assert!(url.hosts[0].0 == "h", "{}", text);
            }
        }
    }

    /// No other text causes a panic either.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}|redis(s|-sentinel|\\+unix)?://[ -~]{0,40}") {
        if let Err(problem) = text.parse::<RedisUrl>() {
            prop_assert!(!problem.problem().is_empty());
        }
    }
}
