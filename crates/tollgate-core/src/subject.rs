//! Who and what a check is about.

use std::fmt;
use std::sync::Arc;

/// A named property of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// The tenant (customer, organisation).
    Tenant,
    /// The user.
    User,
    /// The API key.
    ApiKey,
    /// The model asked for.
    Model,
    /// The class of models it belongs to.
    ModelTier,
    /// The service that asks.
    Service,
    /// The client's address.
    Ip,
    /// The subscription class.
    Tier,
    /// Any other name.
    Custom(Arc<str>),
}

impl Attribute {
    const BUILT_IN: usize = 8;

    /// The names of the built-in attributes. Any other name is a custom attribute.
    pub const BUILT_IN_NAMES: [&'static str; Self::BUILT_IN] =
        ["tenant", "user", "apiKey", "model", "modelTier", "service", "ip", "tier"];

    /// The built-in attribute that `name` resembles without being its name: it differs only in case, separators or a
    /// final `id` (`user_id`, `Service`). As a custom attribute it would silently match no policy on the built-in one.
    /// Allocates nothing.
    pub fn resembled_by(name: &str) -> Option<&'static str> {
        if Self::BUILT_IN_NAMES.contains(&name) {
            return None;
        }
        Self::BUILT_IN_NAMES.into_iter().find(|built_in| {
            let mut letters = name
                .chars()
                .filter(|c| !matches!(c, '_' | '-' | ' ' | '.'))
                .map(|c| c.to_ascii_lowercase());
            built_in.chars().all(|c| letters.next() == Some(c.to_ascii_lowercase()))
                && matches!(
                    (letters.next(), letters.next(), letters.next()),
                    (None, ..) | (Some('i'), Some('d'), None)
                )
        })
    }

    /// The attribute called `name`; a name that is not built in is custom. `None` if `name` is not a valid id.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "tenant" => Self::Tenant,
            "user" => Self::User,
            "apiKey" => Self::ApiKey,
            "model" => Self::Model,
            "modelTier" => Self::ModelTier,
            "service" => Self::Service,
            "ip" => Self::Ip,
            "tier" => Self::Tier,
            _ => return check_id(name).is_ok().then(|| Self::Custom(name.into())),
        })
    }

    /// The name, as in policies.
    pub fn name(&self) -> &str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::ApiKey => "apiKey",
            Self::Model => "model",
            Self::ModelTier => "modelTier",
            Self::Service => "service",
            Self::Ip => "ip",
            Self::Tier => "tier",
            Self::Custom(name) => name,
        }
    }

    #[inline]
    const fn index(&self) -> Option<usize> {
        Some(match self {
            Self::Tenant => 0,
            Self::User => 1,
            Self::ApiKey => 2,
            Self::Model => 3,
            Self::ModelTier => 4,
            Self::Service => 5,
            Self::Ip => 6,
            Self::Tier => 7,
            Self::Custom(_) => return None,
        })
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The attributes of one check, borrowed from the request.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    built_in: [Option<&'a str>; Attribute::BUILT_IN],
    user_tenant: Option<&'a str>,
    custom: Vec<(&'a str, &'a str)>,
}

impl<'a> Subject<'a> {
    /// A subject without attributes.
    pub const fn empty() -> Self {
        Self { built_in: [None; Attribute::BUILT_IN], user_tenant: None, custom: Vec::new() }
    }

    /// The subject of `user` asking for `model`.
    #[inline]
    pub const fn new(user: &'a str, model: &'a str) -> Self {
        let mut subject = Self::empty();
        subject.built_in[1] = Some(user);
        subject.built_in[3] = Some(model);
        subject
    }

    /// The same subject with `attribute` set to `value`.
    #[must_use]
    pub fn with(mut self, attribute: &'a Attribute, value: &'a str) -> Self {
        self.set(attribute, value);
        self
    }

    /// Sets `attribute` to `value`.
    pub fn set(&mut self, attribute: &'a Attribute, value: &'a str) {
        match attribute.index() {
            Some(index) => self.built_in[index] = Some(value),
            None => self.set_named(attribute.name(), value),
        }
    }

    /// Sets the attribute called `name`, built in or custom, to `value`.
    pub fn set_named(&mut self, name: &'a str, value: &'a str) {
        match name {
            "tenant" => self.built_in[0] = Some(value),
            "user" => self.built_in[1] = Some(value),
            "apiKey" => self.built_in[2] = Some(value),
            "model" => self.built_in[3] = Some(value),
            "modelTier" => self.built_in[4] = Some(value),
            "service" => self.built_in[5] = Some(value),
            "ip" => self.built_in[6] = Some(value),
            "tier" => self.built_in[7] = Some(value),
            _ => match self.custom.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => self.custom.push((name, value)),
            },
        }
    }

    /// Notes that the user is one of `tenant`, although the check names no tenant. It is no attribute: no limit of the
    /// tenant applies, but the user has the same usage as when the check names it.
    pub fn set_user_tenant(&mut self, tenant: &'a str) {
        self.user_tenant = Some(tenant);
    }

    /// The tenant of the user: that of the subject, else the one that was noted.
    #[inline]
    pub fn user_tenant(&self) -> Option<&'a str> {
        self.get(&Attribute::Tenant).or(self.user_tenant)
    }

    /// The attributes that it has, with their names.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let built_in = Attribute::BUILT_IN_NAMES.into_iter().zip(self.built_in);
        let built_in = built_in.filter_map(|(name, value)| Some((name, value?)));
        built_in.chain(self.custom.iter().copied())
    }

    /// The value of `attribute`, if the subject has it.
    #[inline]
    pub fn get(&self, attribute: &Attribute) -> Option<&'a str> {
        match attribute.index() {
            Some(index) => self.built_in[index],
            None => self.get_custom(attribute.name()),
        }
    }

    /// Out of line, so that the usual attributes do not pay for it.
    #[cold]
    fn get_custom(&self, name: &str) -> Option<&'a str> {
        self.custom.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// What [`check_id`] accepts, for messages.
pub const ACCEPTED_IDS: &str = "1 to 256 bytes of UTF-8 without control characters";

/// What is wrong with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdProblem {
    /// It has no byte.
    Empty,
    /// It has this many bytes, more than [`MAX_ID_BYTES`].
    TooLong(usize),
    /// It has this control character.
    Control(char),
}

impl fmt::Display for IdProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong(bytes) => write!(f, "has {bytes} bytes"),
            Self::Control(c) => write!(f, "has the control character U+{:04X}", u32::from(*c)),
        }
    }
}

impl std::error::Error for IdProblem {}

/// Checks that `id` is [1 to 256 bytes of UTF-8 without control characters](ACCEPTED_IDS).
#[inline]
pub fn check_id(id: &str) -> Result<(), IdProblem> {
    if id.is_empty() {
        return Err(IdProblem::Empty);
    }
    if id.len() > MAX_ID_BYTES {
        return Err(IdProblem::TooLong(id.len()));
    }
    id.chars().find(|c| c.is_control()).map_or(Ok(()), |c| Err(IdProblem::Control(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attributes_read_back() {
        for name in
            ["tenant", "user", "apiKey", "model", "modelTier", "service", "ip", "tier", "region"]
        {
            let attribute = Attribute::parse(name).unwrap();
            assert_eq!(attribute.name(), name);
            let mut by_name = Subject::empty();
            by_name.set_named(name, "v");
            assert_eq!(by_name.get(&attribute), Some("v"));
            assert_eq!(by_name.attributes().collect::<Vec<_>>(), [(name, "v")]);
            assert_eq!(Subject::empty().with(&attribute, "v").get(&attribute), Some("v"));
            assert_eq!(Subject::empty().get(&attribute), None);
        }
    }

    #[test]
    fn names_that_resemble_a_built_in_one_are_found() {
        let cases = [
            ("User", "user"),
            ("userId", "user"),
            ("user_id", "user"),
            ("api_key", "apiKey"),
            ("apikey", "apiKey"),
            ("API Key ID", "apiKey"),
            ("model-tier", "modelTier"),
            ("Model.Tier", "modelTier"),
            ("modelID", "model"),
            ("IP", "ip"),
            ("Service", "service"),
            ("TIER", "tier"),
        ];
        for (name, built_in) in cases {
            assert_eq!(Attribute::resembled_by(name), Some(built_in), "{name}");
        }
        let others =
            ["", "region", "users", "valid", "id", "größe", "x-tier", "modelTierIds", "userIdx"];
        for name in others.into_iter().chain(Attribute::BUILT_IN_NAMES) {
            assert_eq!(Attribute::resembled_by(name), None, "{name}");
        }
    }

    #[test]
    fn ids_are_1_to_256_bytes_without_control_characters() {
        let cases = [
            ("", Err(IdProblem::Empty)),
            ("a\nb", Err(IdProblem::Control('\n'))),
            ("\u{85}", Err(IdProblem::Control('\u{85}'))),
            ("naïve 用户 {x}:|", Ok(())),
        ];
        for (id, expected) in cases {
            assert_eq!(check_id(id), expected, "{id:?}");
        }
        assert_eq!(check_id(&"é".repeat(128)), Ok(()));
        assert_eq!(check_id(&"a".repeat(257)), Err(IdProblem::TooLong(257)));
    }
}
