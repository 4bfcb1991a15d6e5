//! Keys of ours that something else has written to: only the checks that use such a key fail, and they do not change it.

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::{Amount, Charge, Limit, ManualClock, Subject, Timestamp};
use tollgate_redis::{EntryId, RedisStore};
use tollgate_store::{Store, StoreError, StoreErrorKind};
use tollgate_testkit::Way;
use tollgate_testkit::redis::RedisServer;

use crate::support::{RUNTIME, limit_of, store_at};

const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);
const WINDOW: Duration = Duration::from_secs(100);

/// Copies the saved key and its hash back, damages one of them, and returns the digests of both. The damage is a byte
/// of the string (`ARGV[1]`, `ARGV[2]`) or a field of the hash and its new value.
const DAMAGE: &str = "
    for _, end_of in ipairs({'', 'b'}) do
        redis.call('DEL', KEYS[1] .. end_of)
        redis.call('COPY', 'saved' .. end_of, KEYS[1] .. end_of)
    end
    local place, value = ARGV[1], ARGV[2]
    if tonumber(place) then
        redis.call('SETRANGE', KEYS[1], place, string.char(value))
    elseif place == 'whole' then
        redis.call('SET', KEYS[1], value)
    elseif place ~= 'none' then
        local field = place:sub(2)
        if value == 'shorter' then value = redis.call('HGET', KEYS[1] .. 'b', field):sub(1, -3) end
        if value == 'nan' then value = redis.call('HGET', KEYS[1] .. 'b', field):gsub('.', string.char(255)) end
        redis.call('HSET', KEYS[1] .. 'b', field, value)
    end";
const DIGEST: &str = "
    local digests = ''
    for _, end_of in ipairs({'', 'b'}) do
        digests = digests .. redis.sha1hex(redis.call('DUMP', KEYS[1] .. end_of) or '')
    end
    return digests";

struct Victim {
    server: RedisServer,
    store: RedisStore,
    clock: Arc<ManualClock>,
    limit: Arc<Limit>,
    key: String,
    ids: Vec<EntryId>,
    last_ms: u64,
}

impl Victim {
    /// A limit that admitted each of `costs`, one a quarter of a second.
    fn new(way: Way, costs: &[u64]) -> Self {
        let server = RedisServer::start();
        let clock = Arc::new(ManualClock::default());
        let store = store_at(&server.url()).with_test_clock(clock.clone());
        let limit = limit_of("p", "USER", 2_000, WINDOW, way);
        let alice = Subject::new("alice", "m");
        let (mut ids, mut last_ms) = (Vec::new(), 0);
        for cost in costs {
            clock.set(START.after(Duration::from_millis(last_ms)));
            let charge =
                Charge { limit: &limit, subject: &alice, cost: Amount::new(*cost).unwrap() };
            let charged = RUNTIME.block_on(store.charge_many_with_ids(&[&[charge]])).unwrap();
            assert!(charged[0][0].0.allowed);
            ids.push(charged[0][0].1);
            last_ms += 250;
        }
        let key = store.key(&limit, &alice);
        for end in ["", "b"] {
            server.command(&["COPY", &format!("{key}{end}"), &format!("saved{end}")]);
        }
        Self { server, store, clock, limit, key, ids, last_ms }
    }

    fn eval(&self, script: &str, arguments: [&str; 2]) -> String {
        let [one, other] = arguments;
        self.server.command(&["EVAL", script, "1", &self.key, one, other]).concat()
    }

    /// Runs every operation on the value that is damaged at `place` and counts the errors.
    #[track_caller]
    fn damaged(&self, place: &str, value: &str) -> usize {
        let alice = Subject::new("alice", "m");
        let bob = Subject::new("bob", "m");
        let charge_of = |cost: u64| Charge {
            limit: &self.limit,
            subject: &alice,
            cost: Amount::new(cost).unwrap(),
        };
        let of_bob = Charge { limit: &self.limit, subject: &bob, cost: Amount::ONE };
        let (one, three) = (charge_of(1), charge_of(3));
        let mut errors = 0;
        let mut tell = |operation: &str, run: &dyn Fn() -> Result<(), StoreError>| {
            self.eval(DAMAGE, [place, value]);
            let before = self.eval(DIGEST, ["", ""]);
            let Err(error) = run() else { return };
            errors += 1;
            let what = format!("{operation} with {value} at {place}: {error:?}");
            assert_eq!(error.kind(), StoreErrorKind::ForeignKey, "{what}");
            assert!(format!("{error:?}").contains(&self.key), "{what}");
            assert_eq!(self.eval(DIGEST, ["", ""]), before, "{what}");
        };
        let store = &self.store;
        for later_ms in [0, 60_000, 150_000] {
            self.clock.set(START.after(Duration::from_millis(self.last_ms + later_ms)));
            tell("a peek", &|| RUNTIME.block_on(store.peek(&[one])).map(drop));
            tell("a charge", &|| RUNTIME.block_on(store.charge(&[one], None)).map(drop));
            tell("a charge of 3", &|| RUNTIME.block_on(store.charge(&[three], None)).map(drop));
        }
        self.clock.set(START.after(Duration::from_millis(self.last_ms)));
        for id in [self.ids.first(), self.ids.last()].into_iter().flatten() {
            tell("a change", &|| {
                RUNTIME.block_on(store.change_admission(&one, *id, charge_of(2).cost)).map(drop)
            });
        }
        tell("a reset", &|| RUNTIME.block_on(store.reset(&self.limit, &alice)).map(drop));
        // The other checks of the same call are decided.
        self.eval(DAMAGE, [place, value]);
        let together = [[of_bob], [one], [of_bob]];
        let together: Vec<&[Charge<'_>]> = together.iter().map(|one| &one[..]).collect();
        let answers = RUNTIME.block_on(store.charge_many_with_ids(&together));
        if let Err(error) = answers {
            assert!(error.to_string().contains("Undecided"), "{error:?}");
        }
        let used = RUNTIME.block_on(store.peek(&[of_bob])).unwrap().verdicts[0].usage;
        RUNTIME.block_on(store.reset(&self.limit, &bob)).unwrap();
        assert_eq!(used, 2, "{value} at {place}");
        errors
    }

    /// Every byte of the last `bytes` of the string, with three other values.
    fn damaged_at_its_end(&self, bytes: usize) -> usize {
        let length: usize = self.server.command(&["STRLEN", "saved"]).concat().parse().unwrap();
        let places = length.saturating_sub(bytes)..length;
        places
            .flat_map(|place| {
                ["0", "1", "255"].map(|value| self.damaged(&place.to_string(), value))
            })
            .sum()
    }
}

#[test]
fn a_damaged_log_fails_its_own_checks_only() {
    for (costs, least) in [(vec![1; 20], 700), (vec![3; 20], 700)] {
        let victim = Victim::new(Way::Log, &costs);
        assert_eq!(victim.damaged("none", ""), 0);
        let errors = victim.damaged_at_its_end(90);
        assert!(errors >= least, "only {errors} were noticed");
        for value in ["x", &"x".repeat(76), &"\0".repeat(76), &"\u{7f}".repeat(200)] {
            assert_eq!(victim.damaged("whole", value), 12, "{value:?}");
        }
    }
}

#[test]
fn a_damaged_hash_of_a_long_log_fails_its_own_checks_only() {
    for costs in [vec![1; 400], vec![2; 400]] {
        let victim = Victim::new(Way::Log, &costs);
        assert_eq!(victim.damaged("none", ""), 0);
        let fields = victim.server.command(&["HKEYS", "savedb"]);
        assert!(fields.len() > 5, "{fields:?}");
        let mut errors = 0;
        for field in &fields {
            for value in ["", "x", "shorter", "nan", &"\0".repeat(40)] {
                errors += victim.damaged(&format!("f{field}"), value);
            }
        }
        assert!(errors >= 50, "only {errors} were noticed");
    }
}

#[test]
fn a_damaged_tally_fails_its_own_checks_only() {
    for way in [Way::Counter, Way::Bucket, Way::Calendar] {
        let victim = Victim::new(way, &[1; 20]);
        assert_eq!(victim.damaged("none", ""), 0);
        victim.damaged_at_its_end(usize::MAX);
        for value in ["x", &"x".repeat(34), &"\u{7f}".repeat(76)] {
            assert!(victim.damaged("whole", value) > 0, "{value:?}");
        }
    }
}
