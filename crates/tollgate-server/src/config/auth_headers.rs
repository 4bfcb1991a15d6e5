//! The request headers that `/rate-limit/auth` reads.

use hyper::header::HeaderName;
use tollgate_core::{Attribute, subject};

use super::layers::Refused;

/// The maximum number of attributes.
const MAX_ATTRIBUTES: usize = 32;

const COST: &str = "cost";
const REQUEST_ID: &str = "requestId";

/// The setting if nothing is configured.
const DEFAULT: &str =
    "user=x-user-id model=x-model-id tenant=x-tenant-id apiKey=x-api-key cost=x-tollgate-cost";

const ACCEPTED: &str = "NAME=HEADER, with commas or white space between, where NAME is user, model, tenant, apiKey, service, ip, \
     tier, modelTier, cost, requestId or an attribute of your own, at least one of them an attribute; such as \
     user=x-user-id,model=x-model-id,cost=x-tollgate-cost";

/// The request headers that have the subject and the cost of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthHeaders {
    /// Each attribute of the subject with its header.
    pub(crate) subject: Vec<(Attribute, HeaderName)>,
    /// The header with the cost.
    pub(crate) cost: Option<HeaderName>,
    /// The header with the request id.
    pub(crate) request_id: Option<HeaderName>,
}

impl AuthHeaders {
    /// The headers in `text`, `NAME=HEADER` with commas or white space between; `None` if it is not such a list.
    pub fn new(text: &str) -> Option<Self> {
        parse(text).ok()
    }

    /// The attributes that are not built in, for messages.
    pub(crate) fn own_attributes(&self) -> Vec<&str> {
        let names = self.subject.iter().map(|(attribute, _)| attribute.name());
        names.filter(|name| !Attribute::BUILT_IN_NAMES.contains(name)).collect()
    }

    /// The headers of the subject, for messages.
    pub(crate) fn subject_headers(&self) -> String {
        let names: Vec<_> = self.subject.iter().map(|(_, header)| header.as_str()).collect();
        names.join(", ")
    }
}

impl Default for AuthHeaders {
    fn default() -> Self {
        // A test parses it.
        parse(DEFAULT).unwrap_or_else(|_| Self { subject: vec![], cost: None, request_id: None })
    }
}

/// Parses the headers in `text`.
pub(super) fn parse(text: &str) -> Result<AuthHeaders, Refused> {
    let refused = |problem| Refused { problem, accepted: ACCEPTED };
    let mut headers = AuthHeaders { subject: Vec::new(), cost: None, request_id: None };
    let mut used: Vec<HeaderName> = Vec::new();
    let items = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty());
    for item in items {
        let Some((name, header)) = item.split_once('=') else {
            return Err(refused(format!("{item:?} has no `=`")));
        };
        let Ok(header) = header.parse::<HeaderName>() else {
            return Err(refused(format!("{header:?} is not the name of a header")));
        };
        if used.contains(&header) {
            return Err(refused(format!("the header {:?} is given twice", header.as_str())));
        }
        used.push(header.clone());
        let is_new = match name {
            COST => headers.cost.replace(header).is_none(),
            REQUEST_ID => headers.request_id.replace(header).is_none(),
            _ => headers.add_attribute(name, header)?,
        };
        if !is_new {
            return Err(refused(format!("{name:?} is given twice")));
        }
    }
    match headers.subject.len() {
        0 => Err(refused("names no attribute".to_owned())),
        count if count > MAX_ATTRIBUTES => {
            Err(refused(format!("has {count} attributes, more than {MAX_ATTRIBUTES}")))
        }
        _ => Ok(headers),
    }
}

impl AuthHeaders {
    /// Adds an attribute; false if it is there already.
    fn add_attribute(&mut self, name: &str, header: HeaderName) -> Result<bool, Refused> {
        let refused = |problem| Refused { problem, accepted: ACCEPTED };
        if let Some(like) = Attribute::resembled_by(name) {
            let problem = format!("{name:?} resembles the attribute {like:?}, but is not the same");
            return Err(refused(problem));
        }
        if let Some(like) = other_name_resembled_by(name) {
            return Err(refused(format!("{name:?} resembles {like:?}, but is not the same")));
        }
        subject::check_id(name)
            .map_err(|problem| refused(format!("the name {name:?} {problem}")))?;
        let Some(attribute) = Attribute::parse(name) else { return Ok(false) };
        if self.subject.iter().any(|(known, _)| *known == attribute) {
            return Ok(false);
        }
        self.subject.push((attribute, header));
        Ok(true)
    }
}

/// [`COST`] or [`REQUEST_ID`], if `name` differs from it only in case, separators or a final `s`.
fn other_name_resembled_by(name: &str) -> Option<&'static str> {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | '.'));
    let letters = letters.collect::<String>().to_ascii_lowercase();
    let singular = letters.strip_suffix('s').unwrap_or(&letters);
    [COST, REQUEST_ID].into_iter().find(|like| like.eq_ignore_ascii_case(singular))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(headers: &AuthHeaders) -> Vec<(&str, &str)> {
        headers.subject.iter().map(|(name, header)| (name.name(), header.as_str())).collect()
    }

    #[test]
    fn the_default_is_what_the_documents_say() {
        let headers = AuthHeaders::default();
        let expected = [
            ("user", "x-user-id"),
            ("model", "x-model-id"),
            ("tenant", "x-tenant-id"),
            ("apiKey", "x-api-key"),
        ];
        assert_eq!(shown(&headers), expected);
        assert_eq!(headers.cost.unwrap().as_str(), "x-tollgate-cost");
        assert_eq!(headers.request_id, None);
    }

    #[test]
    fn a_list_has_attributes_a_cost_and_a_request_id() {
        let headers = parse("user=X-User, region=x-region\trequestId=x-request-id").unwrap();
        assert_eq!(shown(&headers), [("user", "x-user"), ("region", "x-region")]);
        assert_eq!(headers.own_attributes(), ["region"]);
        assert_eq!((headers.cost, headers.request_id.unwrap().as_str()), (None, "x-request-id"));
        for (wrong, problem) in [
            ("", "names no attribute"),
            ("cost=x-cost", "names no attribute"),
            ("x-user-id", "\"x-user-id\" has no `=`"),
            ("user=", "\"\" is not the name of a header"),
            ("user=x-id,model=X-Id", "the header \"x-id\" is given twice"),
            ("user=x-a,user=x-b", "\"user\" is given twice"),
            ("user=x-a,cost=x-b,cost=x-c", "\"cost\" is given twice"),
            ("=x-a", "the name \"\" is empty"),
            ("userId=x-a", "\"userId\" resembles the attribute \"user\", but is not the same"),
            (
                "user=x-a,requestid=x-b",
                "\"requestid\" resembles \"requestId\", but is not the same",
            ),
            (
                "user=x-a,request_id=x-b",
                "\"request_id\" resembles \"requestId\", but is not the same",
            ),
            ("user=x-a,Costs=x-b", "\"Costs\" resembles \"cost\", but is not the same"),
        ] {
            assert_eq!(parse(wrong).unwrap_err().problem, problem, "{wrong:?}");
        }
        let many: Vec<_> = (0..=MAX_ATTRIBUTES).map(|n| format!("a{n}=x-{n}")).collect();
        assert!(parse(&many.join(",")).is_err());
    }
}
