//! The schemas of records: what their fields hold, and where they may be given.
//!
//! The validators of the catalog decide what is accepted. A test sends the examples of these schemas; schemathesis
//! generates requests from the schemas.

use serde_json::{Map, Value, json};
use tollgate_catalog::directory::{Kind, PriorityClass};
use tollgate_catalog::validate::NOT_OF_CONCURRENCY;
use tollgate_core::subject::{ACCEPTED_IDS, MAX_ID_BYTES};
use tollgate_core::{
    Amount, Calendar, Counting, FailureMode, Mode, OnExpire, OverLimit, Per, Policy, TokenKind,
    Unit, Visibility,
};

use super::super::super::schema::{ID_PATTERN, MATCH_PATTERN, UNIT_PATTERN};

/// What a record is written as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is answered.
    Answer,
    /// The answer that makes an API key, with the key itself.
    Created,
    /// The body that makes one.
    New,
    /// One of a policy file, with its id.
    Listed,
    /// The body that replaces one, where it may hold more than a new one.
    Replacement,
    /// The body that changes some fields.
    Patch,
    /// A page of a list.
    Page,
}

impl Form {
    /// The form of the body that replaces a record of `kind`: an API key may contain the fields that only answers have.
    pub(super) fn replacement(kind: Kind) -> Self {
        if kind == Kind::ApiKey { Self::Replacement } else { Self::New }
    }

    /// Its name for records of `kind`: `ApiKeyPatch`.
    fn name(self, kind: Kind) -> String {
        let (first, rest) = kind.name().split_at(1);
        let record = format!("{}{rest}", first.to_uppercase());
        match self {
            Self::Answer => record,
            Self::Created => format!("Created{record}"),
            Self::New => format!("New{record}"),
            Self::Listed => format!("Listed{record}"),
            Self::Replacement => format!("{record}Replacement"),
            Self::Patch => format!("{record}Patch"),
            Self::Page => format!("{record}Page"),
        }
    }

    /// A reference to its schema for records of `kind`.
    pub(super) fn reference(self, kind: Kind) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", self.name(kind))})
    }
}

/// Every schema that is made of records, with its name.
pub(super) fn schemas() -> impl Iterator<Item = (String, Value)> {
    let of_kind = |kind| {
        let by_itself = match kind {
            Kind::ApiKey => {
                vec![(Form::Created, created()), (Form::Replacement, body(kind, Form::Replacement))]
            }
            _ => vec![(Form::Listed, body(kind, Form::Listed))],
        };
        let of_all = [Form::New, Form::Patch].map(|form| (form, body(kind, form)));
        let answers = [(Form::Answer, answer(kind)), (Form::Page, page(kind))];
        let all = answers.into_iter().chain(of_all).chain(by_itself);
        all.map(move |(form, schema)| (form.name(kind), schema))
    };
    let files = [("Catalog".to_owned(), catalog()), ("Judged".to_owned(), judged())];
    Kind::ALL.into_iter().flat_map(of_kind).chain(files)
}

/// Where a field may be given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    /// Everywhere, and must be in a new record.
    Required,
    /// Everywhere.
    Optional,
    /// Everywhere; in a patch, null gives it its default.
    Resettable,
    /// Everywhere; null is the same as not given.
    Nullable,
    /// Only the directory sets it; a change may contain the value that an answer had.
    Kept,
}

/// Where the field `name` may be given, which is the same in every kind of record that has it.
fn given(name: &str) -> Given {
    match name {
        "tenantId" | "modelTier" => Given::Required,
        "id" | "limit" => Given::Optional,
        "name" | "tier" | "priority" | "userId" | "expiresAt" => Given::Nullable,
        "prefix" | "lastUsedAt" | "source" | "warnings" => Given::Kept,
        // `revoked`, and the others of a policy.
        _ => Given::Resettable,
    }
}

/// Whether every answer has the field `name`; otherwise only where it is set.
fn is_always_answered(name: &str) -> bool {
    matches!(given(name), Given::Required | Given::Optional)
        || ["name", "priority", "revoked", "prefix"].contains(&name)
}

type Fields = Map<String, Value>;

/// The fields of a record of `kind` with their schemas, in the order in which a reader wants them.
fn fields(kind: Kind) -> Fields {
    let id = "Its id, unique among records of its kind. A new record cannot have the id `.` or `..`, because in a path these \
        mean another path.";
    let (id, name) = (text(id), text("Its display name; by default its id."));
    let tenant_id = text("The tenant that it belongs to.");
    let fields = match kind {
        Kind::Tier => json!({
            "id": id, "name": name,
            "priority": {
                "type": "string", "enum": PriorityClass::ALL.map(PriorityClass::name),
                "description": "How important its checks are to policies with `shares`; by default `standard`."
            }
        }),
        Kind::ModelTier => json!({"id": id, "name": name}),
        Kind::Model => json!({
            "id": id, "name": name, "modelTier": text("The model tier that it belongs to.")
        }),
        Kind::Tenant => json!({
            "id": id, "name": name,
            "tier": text("The tier of its users and API keys that have none of their own.")
        }),
        Kind::User => json!({
            "id": id, "tenantId": tenant_id, "name": name,
            "tier": text("Its own tier, which overrides that of its tenant.")
        }),
        Kind::ApiKey => json!({
            "id": id, "name": name, "tenantId": tenant_id,
            "userId": text("The user that it belongs to, who must be of the same tenant."),
            "tier": text("Its own tier, which overrides those of its user and its tenant."),
            "expiresAt": {
                "type": "string", "format": "date-time",
                "description": "When it expires; checks with it are denied from then on. To the millisecond, from 1970 to 2554."
            },
            "revoked": {"type": "boolean", "description": "Whether it is revoked; checks with a revoked key are denied."},
            "prefix": text("The first characters of the key, to tell keys apart."),
            "lastUsedAt": {
                "type": "string", "format": "date-time", "description": "Approximately when it was last used."
            }
        }),
        Kind::Policy => {
            let mut fields = policy_fields(&id);
            fields.append(&mut effect_fields());
            return fields;
        }
    };
    if let Value::Object(fields) = fields { fields } else { Fields::new() }
}

/// The field `shares` of a policy.
fn shares() -> Value {
    let share = json!({"type": "number", "minimum": 0, "maximum": 1});
    let share = |class: PriorityClass| (class.name().to_owned(), share.clone());
    let shares: Map<_, _> = PriorityClass::ALL.map(share).into_iter().collect();
    json!({
        "type": "object", "properties": shares, "additionalProperties": false,
        "description": "For each priority class, the part of `limit` up to which its checks are admitted: from 0 to 1, with \
            at most 6 decimals. All classes share one usage. A class that is not named has the part of the next more \
            important class that is, or the whole limit. A class cannot have a larger part than a more important one."
    })
}

/// The field `split` of a policy.
fn split() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["share"], "properties": {
            "share": {
                "type": "number", "exclusiveMinimum": 0, "maximum": 0.5,
                "description": "The greatest part, as a share of what is left of the limit, with at most 6 decimals."
            }
        },
        "description": "Servers take parts of the limit from Redis ahead of time and decide from them. Never above the limit, \
            but a check may be denied while other servers hold what they have not spent; `count` is an estimate. Only for \
            `sliding_window_log` over 1 second to 365 days, a limit with a share of at least 4, and `overLimit: deny`. \
            In memory and over memcached it has no effect."
    })
}

/// How much a policy counts of each kind of tokens.
fn weights() -> Value {
    let weight = json!({"type": "number", "minimum": 0, "maximum": 1_000});
    let weight = |kind: TokenKind| (kind.name().to_owned(), weight.clone());
    let weights: Map<_, _> = TokenKind::ALL.map(weight).into_iter().collect();
    json!({
        "type": "object", "properties": weights, "additionalProperties": false,
        "description": "How much a token of a kind counts, from 0 to 1000 with at most 3 decimals. Only beside the unit `tokens`, \
            `input_tokens` or `output_tokens`, and only for its own kinds. A kind that is not named has the weight of the kind \
            that it is a part of, or else 1. The sum is exact, and rounded up once. Not for a policy without a limit.",
        "examples": [{"cached_input_tokens": 0.1}]
    })
}

/// What a policy counts, of whom, and how.
fn policy_fields(own_id: &Value) -> Fields {
    let id = json!({"$ref": "#/components/schemas/Id"});
    let pattern = json!({
        "type": "string", "minLength": 1, "pattern": MATCH_PATTERN,
        "description": "A value, or a prefix that ends in `*`."
    });
    let presence = |name: &str| {
        json!({
            "type": "object", "properties": {name: {"const": true}}, "required": [name],
            "additionalProperties": false
        })
    };
    let fields = json!({
        "id": own_id,
        "scope": {
            "type": "string", "enum": Per::ACCEPTED_SCOPES.split(", ").collect::<Vec<_>>(),
            "description": "A short name for the attributes that its limits count per. Give either `scope` or `per`."
        },
        "per": {
            "type": "array", "items": id, "maxItems": Per::MAX_ATTRIBUTES, "uniqueItems": true,
            "description": "The attributes that its limits count per, each at most once: `tenant`, `user`, `apiKey`, \
                `model`, `modelTier`, `service`, `ip`, `tier`, or a name of your own that does not resemble one of these."
        },
        "match": {
            "type": "object", "propertyNames": text(ACCEPTED_IDS), "maxProperties": Policy::MAX_CONDITIONS,
            "additionalProperties": {"oneOf": [pattern, {
                "type": "array", "items": pattern, "minItems": 1, "maxItems": Policy::MAX_CONDITION_VALUES
            }, presence("present"), presence("absent")]},
            "description":
                "The checks that it applies to: each attribute named here must have one of its values. All conditions must \
                 hold. A value that ends in `*` is a prefix, `\\*` an asterisk itself; `ip` also takes CIDR blocks; \
                 `{\"present\": true}` takes any value, `{\"absent\": true}` none."
        },
        "ipv6Prefix": {
            "type": "integer", "minimum": 1, "maximum": 128,
            "description": "How many leading bits of an IPv6 address are counted together, by default 64: the network that \
                a provider gives to one customer. Only if it counts per `ip`."
        },
        "ignoreCase": {
            "type": "boolean", "description": "Whether `match` compares without regard to case; by default false."
        },
        "unit": {
            "type": "string", "pattern": UNIT_PATTERN,
            "description": "What is counted: `requests` (the default), `tokens`, `input_tokens`, `output_tokens`, or a \
                name of your own. Or `concurrency`: `limit` is the most leases that are alive at a time, and there is no \
                window."
        },
        "weights": weights(),
        "limit": {
            "type": ["integer", "null"], "minimum": 0, "maximum": Amount::MAX.get(),
            "description":
                "The most of the unit in a window, or what a token bucket gets back in one; of concurrency, the most leases \
                 that are alive. 0 bans; null exempts from the limits with the same `per`, unit and window, of any window if \
                 `windowSeconds` is left out. Required, unless `exempt` is given."
        },
        "burst": {
            "type": "integer", "minimum": 1, "maximum": Amount::MAX.get(),
            "description": "The capacity of a token bucket: the most that is admitted at once. By default as much as \
                `limit`. Only for `token_bucket`; it must be full again within 366 days."
        },
        "exempt": {
            "type": "string", "enum": ["all"],
            "description": "`all` exempts from every limit, whatever that counts; `limit` is then null or left out, and \
                `scope` and `per` may be left out too."
        },
        "shares": shares(),
        "split": split(),
        "windowSeconds": {
            "type": "number", "minimum": 0.001, "maximum": 31_622_400,
            "description": "The length of the window, with at most 9 decimals and without an exponent. May be left out \
                only if `limit` is null or 0, or `calendar` is given. Concurrency has none."
        },
        "calendar": {
            "type": "string", "enum": (Calendar::ALL.map(Calendar::name)),
            "description": "In place of `windowSeconds` and `algorithm`: the limit holds from the start of each hour, day, week \
                (from Monday) or month to the start of the next one."
        },
        "timeZone": {
            "type": "string", "minLength": 1,
            "description": "The IANA name of the time zone of `calendar`, such as `Europe/Berlin`; by default `UTC`."
        },
        "window": {
            "type": "string", "minLength": 2,
            "pattern": "^(?:[0-9]+d)?(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+s)?(?:[0-9]+ms)?$",
            "description": "The same as a duration with units, from 1ms to 366d: `90s`, `7d`, `1h30m`, `500ms`. Answers \
                contain `windowSeconds`."
        },
        "algorithm": {
            "type": "string", "enum": (Counting::NAMES),
            "description": "How the limit counts. `sliding_window_log`, the default, is exact; \
                `sliding_window_counter` needs little memory; `token_bucket` admits bursts and then a steady rate."
        }
    });
    if let Value::Object(fields) = fields { fields } else { Fields::new() }
}

/// What comes of a policy's limit.
fn effect_fields() -> Fields {
    let id = json!({"$ref": "#/components/schemas/Id"});
    let fields = json!({
        "overrides": {
            "type": "array", "items": id, "maxItems": Policy::MAX_OVERRIDES, "uniqueItems": true,
            "description": "The ids of policies that it overrides besides less specific ones with the same `per`, unit \
                and window."
        },
        "mode": {
            "type": "string", "enum": ([Mode::Enforce, Mode::Shadow].map(Mode::name)),
            "description": "`enforce` (the default), or `shadow`: the policy decides and counts but never denies."
        },
        "overLimit": {
            "type": "string", "enum": ([OverLimit::Deny, OverLimit::Charge].map(OverLimit::name)),
            "description": "What it records of a check that is denied, by it or by another policy: `deny`, the default, \
                records nothing; `charge` records the cost, because it has happened already. Not for concurrency, nor for \
                a policy without a limit."
        },
        "onExpire": {
            "type": "string", "enum": ([OnExpire::Keep, OnExpire::Refund].map(OnExpire::name)),
            "description": "What becomes of what a lease has reserved when it expires: `keep`, the default, leaves it charged \
                until it leaves the window; `refund` gives it back. Not for concurrency, whose slots are free then, nor for a \
                policy without a limit."
        },
        "reserve": {
            "type": "object", "additionalProperties": {
                "type": "object", "additionalProperties": false, "required": ["atMost"], "properties": {
                    "quantile": {
                        "type": "number", "minimum": 0, "maximum": 1,
                        "description": "The share of answers so far that used at most what is reserved; 0.95 by default."
                    },
                    "atLeast": {
                        "type": "integer", "minimum": 1, "maximum": (Amount::MAX.get()),
                        "description": "The least that is reserved; 1 by default."
                    },
                    "atMost": {
                        "type": "integer", "minimum": 1, "maximum": (Amount::MAX.get()),
                        "description": "The most that is reserved, also as long as fewer than 20 answers are known."
                    }
                }
            },
            "description": "By unit, how much a lease reserves that does not say: what most answers of the same model and tenant \
                used. Not for `requests`, nor for a policy without a limit.",
            "examples": [{"output_tokens": {"quantile": 0.95, "atLeast": 64, "atMost": 4096}}]
        },
        "visibility": {
            "type": "string", "enum": ([Visibility::Public, Visibility::Private].map(Visibility::name)),
            "description": "Whether the header fields of answers, which callers see, name it: `public`, the default, or \
                `private`. The body of an answer names every limit."
        },
        "onStoreError": {
            "type": "string", "enum": FailureMode::ALL.map(FailureMode::name),
            "description": "The failure mode: how it decides while the store is unavailable. By default the setting of the server."
        },
        "enabled": {"type": "boolean", "description": "Whether it is in force; by default true."},
        "warnings": {
            "type": "array", "items": {
                "type": "object", "properties": {
                    "field": {"type": "string", "description": "The field, such as `match.tier`; empty for the policy itself."},
                    "problem": {"type": "string", "description": "What is worth a second look."},
                    "accepted": {"type": "string", "description": "What is usual there."}
                },
                "required": ["field", "problem", "accepted"]
            },
            "description": "Why it may do less than it seems to: it asks for a tier, tenant or user that the catalog does not \
                have, or another policy stands beside it or overrides it always. Absent if there is nothing."
        },
        "source": {
            "type": "string", "enum": ["built-in"],
            "description": "Only the policy of a new catalog has it, until somebody changes that. It stays until it is deleted."
        }
    });
    if let Value::Object(fields) = fields { fields } else { Fields::new() }
}

/// An id, or a name, which is bounded like one.
fn text(description: &str) -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES, "pattern": ID_PATTERN,
        "description": description
    })
}

fn answer(kind: Kind) -> Value {
    let mut fields = fields(kind);
    fields.retain(|name, _| name != "window");
    let required: Vec<_> = fields.keys().filter(|name| is_always_answered(name)).cloned().collect();
    json!({
        "type": "object", "description": described(kind), "properties": fields, "required": required,
        "examples": [example(kind)]
    })
}

fn described(kind: Kind) -> &'static str {
    match kind {
        Kind::Tier => {
            "A subscription class of API keys, users and tenants. `default` always exists."
        }
        Kind::ModelTier => "A class of models by price or size.",
        Kind::Model => "A model, which checks name as `modelId`.",
        Kind::Tenant => "A customer or an organisation, which checks name as `tenantId`.",
        Kind::User => "A user of a tenant, which checks name as `userId`.",
        Kind::ApiKey => "An API key of a tenant, without the key itself: only its hash is kept.",
        Kind::Policy => {
            "A rule: the checks that it applies to, what it counts per, and how much it admits."
        }
    }
}

/// A body that makes or changes a record of `kind`.
fn body(kind: Kind, form: Form) -> Value {
    let is_patch = form == Form::Patch;
    let takes_kept = is_patch || form == Form::Replacement;
    let mut fields = fields(kind);
    fields.retain(|name, _| takes_kept || given(name) != Given::Kept);
    let is_required = |name: &&String| match given(name) {
        Given::Required => !is_patch,
        _ => form == Form::Listed && *name == "id",
    };
    let required: Vec<_> = fields.keys().filter(is_required).cloned().collect();
    for (name, schema) in &mut fields {
        if given(name) == Given::Nullable || is_patch && given(name) == Given::Resettable {
            accept_null(schema);
        }
    }
    let example = if is_patch { patch_example(kind) } else { body_example(kind) };
    let mut schema = json!({
        "type": "object", "properties": fields, "additionalProperties": false, "examples": [example]
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    match kind {
        // A patch keeps the fields that it leaves out. It is wrong only if it gives both.
        Kind::Policy if is_patch => {
            schema["not"] = json!({"anyOf": [{
                "properties": {"scope": {"type": "string"}, "per": {"type": "array"}},
                "required": ["scope", "per"]
            }, {
                "properties": {"windowSeconds": {"type": "number"}, "window": {"type": "string"}},
                "required": ["windowSeconds", "window"]
            }]});
        }
        Kind::Policy => {
            let either = json!([{"required": ["scope"]}, {"required": ["per"]}]);
            let exempt = json!({
                "required": ["exempt"], "properties": {"limit": {"type": "null"}},
                "not": {"required": ["scope", "per"]}
            });
            let of_concurrency = json!({
                "required": ["unit"], "properties": {"unit": {"const": "concurrency"}}
            });
            let counted = json!({
                "required": ["limit"], "not": {"required": ["exempt"]}, "oneOf": either,
                "anyOf": [
                    {"required": ["windowSeconds"]}, {"required": ["window"]}, {"required": ["calendar"]},
                    {"properties": {"limit": {"enum": [null, 0]}}}, of_concurrency
                ]
            });
            schema["oneOf"] = json!([exempt, counted]);
            let refused = NOT_OF_CONCURRENCY.map(|name| (name.to_owned(), false.into()));
            schema["if"] = of_concurrency;
            schema["then"] = json!({"properties": Fields::from_iter(refused)});
            schema["not"] = json!({"required": ["windowSeconds", "window"]});
            schema["dependentSchemas"] = json!({
                "ipv6Prefix": {"anyOf": [
                    {"properties": {"scope": {"const": "IP"}}, "required": ["scope"]},
                    {"properties": {"per": {"contains": {"const": "ip"}}}, "required": ["per"]}
                ]},
                "burst": {"properties": {"algorithm": {"const": "token_bucket"}}, "required": ["algorithm"]},
                "weights": {"anyOf": TokenKind::UNITS.map(|unit| json!({
                    "required": ["unit"],
                    "properties": {
                        "unit": {"const": unit.name()},
                        "weights": {"propertyNames": {"enum": kinds_of(&unit)}}
                    }
                }))},
                "split": {
                    "properties": {
                        "algorithm": {"const": "sliding_window_log"}, "overLimit": {"const": "deny"}, "calendar": false,
                        "windowSeconds": {"minimum": 1, "maximum": 31_536_000},
                        "limit": {"type": "integer", "minimum": 8}
                    },
                    "required": ["limit"]
                },
                "timeZone": {"required": ["calendar"]},
                "calendar": {"not": {"anyOf": [
                    {"required": ["windowSeconds"]}, {"required": ["algorithm"]}, {"required": ["burst"]}
                ]}}
            });
        }
        _ => {}
    }
    schema
}

fn kinds_of(unit: &Unit) -> Vec<&'static str> {
    TokenKind::within(unit).into_iter().map(TokenKind::name).collect()
}

/// Lets `schema` take null too.
fn accept_null(schema: &mut Value) {
    schema["type"] = json!([schema["type"], "null"]);
    if let Some(Value::Array(names)) = schema.get_mut("enum") {
        names.push(Value::Null);
    }
}

fn created() -> Value {
    let mut example = example(Kind::ApiKey);
    example["key"] = "tg_live_4fQ2Zx9aJ7mWv1KcR8sYbTgH3nLpXeUd5oAqViC6".into();
    let description = "The key itself, which checks give as `apiKey`. It is never shown again.";
    let key = json!({
        "type": "object", "required": ["key"],
        "properties": {"key": {"type": "string", "description": description}}
    });
    json!({
        "description": "A new API key, with the key itself", "examples": [example],
        "allOf": [Form::Answer.reference(Kind::ApiKey), key]
    })
}

/// A page of a list of records of `kind`.
fn page(kind: Kind) -> Value {
    let description = "`cursor` for the next page; null on the last one";
    json!({
        "type": "object", "required": ["items", "nextCursor"],
        "properties": {
            "items": {"type": "array", "items": Form::Answer.reference(kind)},
            "nextCursor": {"type": ["string", "null"], "description": description}
        },
        "examples": [{"items": [example(kind)], "nextCursor": null}]
    })
}

/// The policy file: what is exported and imported.
fn catalog() -> Value {
    let description = "The policy file: every record except API keys, because no document contains their secrets. A list \
         that is left out is empty.";
    let (mut lists, mut example_file) = (json!({}), json!({}));
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::ApiKey) {
        lists[kind.list_name()] = json!({"type": "array", "items": Form::Listed.reference(kind)});
        example_file[kind.list_name()] = json!([body_example(kind)]);
    }
    json!({
        "type": "object", "description": description, "properties": lists, "additionalProperties": false,
        "patternProperties": {"^x-": {"description": "Ignored: for notes, and for anchors in YAML."}},
        "examples": [example_file]
    })
}

/// The body of a validation: one policy, or a policy file with the records that it refers to.
fn judged() -> Value {
    let file = json!({
        "description": "A policy file, which must also contain every record that its records refer to.",
        "allOf": [{"$ref": "#/components/schemas/Catalog"}, {"required": [Kind::Policy.list_name()]}]
    });
    json!({"oneOf": [Form::Listed.reference(Kind::Policy), file], "examples": [body_example(Kind::Policy)]})
}

/// The example of `kind` without what only the directory sets.
fn body_example(kind: Kind) -> Value {
    let mut example = example(kind);
    if let Value::Object(values) = &mut example {
        values.retain(|name, _| given(name) != Given::Kept);
    }
    example
}

/// A record of `kind`, as answers contain it.
pub(super) fn example(kind: Kind) -> Value {
    match kind {
        Kind::Tier => json!({"id": "enterprise", "name": "Enterprise", "priority": "premium"}),
        Kind::ModelTier => json!({"id": "large", "name": "Large models"}),
        Kind::Model => json!({"id": "gpt-4", "name": "GPT-4", "modelTier": "large"}),
        Kind::Tenant => json!({"id": "acme", "name": "Acme", "tier": "enterprise"}),
        Kind::User => {
            json!({"id": "alice", "tenantId": "acme", "name": "Alice", "tier": "enterprise"})
        }
        Kind::ApiKey => json!({
            "id": "acme-production", "name": "Production", "tenantId": "acme", "userId": "alice",
            "expiresAt": "2030-12-31T23:59:59Z", "revoked": false, "prefix": "tg_live_3f9a1c07"
        }),
        Kind::Policy => json!({
            "id": "payments-free", "scope": "SERVICE",
            "match": {"service": "payments", "tier": ["free", "default"]},
            "limit": 10, "windowSeconds": 60, "algorithm": "sliding_window_counter"
        }),
    }
}

/// A change of the example of `kind`.
fn patch_example(kind: Kind) -> Value {
    match kind {
        Kind::Tier => json!({"priority": "internal"}),
        Kind::ModelTier => json!({"name": "Largest models"}),
        Kind::Model => json!({"modelTier": "small"}),
        Kind::Tenant | Kind::User => json!({"tier": null}),
        Kind::ApiKey => json!({"revoked": true}),
        Kind::Policy => json!({"limit": 20, "algorithm": null}),
    }
}
