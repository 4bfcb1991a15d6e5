//! A check from the arguments `user`, `model` and those that have a name: what a request to a server has as members.

use std::net::IpAddr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tollgate::{Attribute, Check, Cost, Subject};

use crate::arguments::{cost, id, invalid, quoted, text, wrong_type};

/// The most attributes of a check, as in a request to a server.
const MAX_ATTRIBUTES: usize = 32;

/// The most models of which the usage of a user is cleared at once.
const MAX_MODELS: usize = 1_000;

/// The arguments that name what a built-in attribute names.
const OWN_ARGUMENTS: [(&str, &str); 6] = [
    ("user", "user"),
    ("model", "model"),
    ("tenant", "tenant"),
    ("apiKey", "api_key"),
    ("service", "service"),
    ("ip", "ip"),
];

/// Checks the arguments of a check by `function`. A client uses it, so that it raises the errors of a limiter.
#[pyfunction]
#[pyo3(signature = (function, user, model, others))]
pub(crate) fn check_arguments(
    function: &str,
    user: Option<&Bound<'_, PyAny>>,
    model: Option<&Bound<'_, PyAny>>,
    others: &Bound<'_, PyDict>,
) -> PyResult<()> {
    OwnedCheck::parse(function, user, model, Some(others)).map(drop)
}

/// A check that owns what it names, so that it can be decided in another thread.
#[derive(Debug)]
pub(crate) struct OwnedCheck {
    /// By the names of attributes.
    attributes: Vec<(String, String)>,
    cost: Cost,
    request_id: Option<String>,
}

impl OwnedCheck {
    /// The check of a call to `function`.
    pub(crate) fn parse(
        function: &str,
        user: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        named: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut check =
            Self { attributes: Vec::new(), cost: Cost::one_request(), request_id: None };
        check.add("user", "user", user)?;
        check.add("model", "model", model)?;
        for (name, value) in named.into_iter().flatten() {
            // An argument with a lone surrogate is none that is known.
            let text = name.cast::<PyString>();
            let text = text.map_err(|_| wrong_type("the name of an argument", &name, "str"))?;
            let name = text.to_string_lossy().into_owned();
            check.take(function, &name, Some(&value).filter(|value| !value.is_none()))?;
        }
        if check.attributes.is_empty() {
            return Err(PyValueError::new_err(format!(
                "{function}() names no subject; accepted: at least one of user, model, tenant, api_key, service, ip and \
                 attributes"
            )));
        }
        Ok(check)
    }

    /// The same with another cost, if one is given.
    pub(crate) fn costing(self, cost: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        match cost {
            None => Ok(self),
            given => Ok(Self { cost: self::cost(given)?, ..self }),
        }
    }

    /// The checks of `function` that name `user` without a model, and with each of `models`.
    pub(crate) fn of_user(
        function: &str,
        user: &Bound<'_, PyAny>,
        models: &Bound<'_, PyAny>,
        named: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<Self>> {
        // It is refused where it is None, unlike in a check.
        id("user", user)?;
        let given = if models.is_instance_of::<PyString>() { None } else { models.try_iter().ok() };
        let accepted = "a sequence of the names of models";
        let given = given.ok_or_else(|| wrong_type("models", models, accepted))?;
        let mut checks = vec![Self::parse(function, Some(user), None, named)?];
        for (at, model) in given.enumerate() {
            if at == MAX_MODELS {
                let accepted = format!("at most {MAX_MODELS} models");
                return Err(invalid("models", &format!("has more than {MAX_MODELS}"), &accepted));
            }
            let model = model?;
            id(&format!("models[{at}]"), &model)?;
            checks.push(Self::parse(function, Some(user), Some(&model), named)?);
        }
        Ok(checks)
    }

    /// Takes the argument `name`.
    fn take(
        &mut self,
        function: &str,
        name: &str,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match name {
            "tenant" | "service" => self.add(name, name, value),
            "api_key" => self.add("apiKey", name, value),
            "ip" => value.map_or(Ok(()), |value| self.add_ip(value)),
            "attributes" => value.map_or(Ok(()), |value| self.add_attributes(value)),
            "cost" => {
                self.cost = cost(value)?;
                Ok(())
            }
            "request_id" => {
                self.request_id = value.map(|value| id(name, value)).transpose()?;
                Ok(())
            }
            _ => Err(PyTypeError::new_err(format!(
                "{function}() has no argument {}; accepted: user, model, tenant, api_key, service, ip, attributes, cost, \
                 request_id",
                quoted(name)
            ))),
        }
    }

    /// Sets the built-in `attribute` to the argument `name`.
    fn add(
        &mut self,
        attribute: &str,
        name: &str,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if let Some(value) = value.filter(|value| !value.is_none()) {
            self.attributes.push((attribute.to_owned(), id(name, value)?));
        }
        Ok(())
    }

    fn add_ip(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let accepted = "an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::1";
        let address: IpAddr = text("ip", value)?
            .parse()
            .map_err(|_| invalid("ip", "is not an IP address", accepted))?;
        self.attributes.push(("ip".to_owned(), address.to_canonical().to_string()));
        Ok(())
    }

    fn add_attributes(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(given) = value.cast::<PyDict>() else {
            return Err(PyTypeError::new_err(
                "attributes is not a dict; accepted: a dict of str by str",
            ));
        };
        if given.len() > MAX_ATTRIBUTES {
            let problem = format!("has {} members", given.len());
            return Err(invalid("attributes", &problem, "at most 32"));
        }
        for (name, value) in given.iter() {
            let name = id("a name in attributes", &name)?;
            let place = format!("attributes[{name:?}]");
            let own = OWN_ARGUMENTS.iter().find(|(attribute, _)| *attribute == name);
            if let Some((_, argument)) = own {
                return Err(invalid(
                    &place,
                    "is not an attribute",
                    &format!("the argument {argument}"),
                ));
            }
            if let Some(like) = Attribute::resembled_by(&name) {
                let problem =
                    format!("resembles the built-in attribute {like}, but is not the same");
                let own = OWN_ARGUMENTS.iter().find(|(attribute, _)| *attribute == like);
                let accepted = own.map_or_else(
                    || format!("the attribute {like}"),
                    |(_, argument)| format!("the argument {argument}"),
                );
                return Err(invalid(&place, &problem, &accepted));
            }
            self.attributes.push((name, id(&place, &value)?));
        }
        Ok(())
    }

    /// The same, borrowed.
    pub(crate) fn check(&self) -> Check<'_> {
        let mut subject = Subject::empty();
        for (name, value) in &self.attributes {
            subject.set_named(name, value);
        }
        let check = Check::of(subject).at_cost(self.cost.clone());
        match &self.request_id {
            Some(request_id) => check.with_request_id(request_id),
            None => check,
        }
    }
}
