//! The members of a pickled state, read with errors that name their place.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};
use tollgate::{Amount, Attribute, Counting, PolicyId, Window};
use tollgate_core::subject::ACCEPTED_IDS;
use tollgate_core::{Calendar, Per, Zone};

use crate::arguments::{amount, dict, integer, invalid, quoted, text, wrong_type};

/// The members of a dict. Each is to be read once.
pub(super) struct Reader<'py> {
    place: String,
    members: Bound<'py, PyDict>,
    read: usize,
}

impl<'py> Reader<'py> {
    pub(super) fn new(place: String, state: &Bound<'py, PyAny>) -> PyResult<Self> {
        let members = dict(&place, state)?.clone();
        Ok(Self { place, members, read: 0 })
    }

    /// Refuses members that were not read.
    pub(super) fn end(self) -> PyResult<()> {
        if self.members.len() == self.read {
            return Ok(());
        }
        let problem = format!("has {} members", self.members.len());
        Err(invalid(&self.place, &problem, &format!("the {} that pickle has written", self.read)))
    }

    fn place(&self, name: &str) -> String {
        format!("{}.{name}", self.place)
    }

    fn member(&mut self, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.read += 1;
        let member = self.members.get_item(name)?;
        member.ok_or_else(|| invalid(&self.place(name), "is missing", "what pickle has written"))
    }

    /// A member that may be None.
    fn optional(&mut self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Some(self.member(name)?).filter(|member| !member.is_none()))
    }

    pub(super) fn boolean(&mut self, name: &str) -> PyResult<bool> {
        let member = self.member(name)?;
        let value = member.cast::<PyBool>();
        value
            .map(pyo3::types::PyBoolMethods::is_true)
            .map_err(|_| wrong_type(&self.place(name), &member, "True or False"))
    }

    pub(super) fn integer(&mut self, name: &str, most: u64) -> PyResult<u64> {
        let member = self.member(name)?;
        integer(&self.place(name), &member, most)
    }

    pub(super) fn optional_integer(&mut self, name: &str, most: u64) -> PyResult<Option<u64>> {
        let member = self.optional(name)?;
        member.map(|member| integer(&self.place(name), &member, most)).transpose()
    }

    pub(super) fn amount(&mut self, name: &str) -> PyResult<Amount> {
        let member = self.member(name)?;
        amount(&self.place(name), &member)
    }

    pub(super) fn optional_amount(&mut self, name: &str) -> PyResult<Option<Amount>> {
        let member = self.optional(name)?;
        member.map(|member| amount(&self.place(name), &member)).transpose()
    }

    /// What a member names.
    pub(super) fn name<T>(
        &mut self,
        name: &str,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> PyResult<T> {
        let member = self.member(name)?;
        parsed(&self.place(name), &member, accepted, parse)
    }

    pub(super) fn optional_name<T>(
        &mut self,
        name: &str,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> PyResult<Option<T>> {
        let member = self.optional(name)?;
        member.map(|member| parsed(&self.place(name), &member, accepted, parse)).transpose()
    }

    pub(super) fn policy_id(&mut self, name: &str) -> PyResult<PolicyId> {
        self.name(name, ACCEPTED_IDS, |text| PolicyId::new(text).ok())
    }

    /// A list of at most `most`, each read by `read` from its place.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        most: usize,
        read: impl Fn(String, &Bound<'py, PyAny>) -> PyResult<T>,
    ) -> PyResult<Vec<T>> {
        let (member, place) = (self.member(name)?, self.place(name));
        let list = member.cast::<PyList>().map_err(|_| wrong_type(&place, &member, "a list"))?;
        if list.len() > most {
            let problem = format!("has {} members", list.len());
            return Err(invalid(&place, &problem, &format!("at most {most}")));
        }
        list.iter().enumerate().map(|(at, one)| read(format!("{place}[{at}]"), &one)).collect()
    }

    pub(super) fn per(&mut self, name: &str) -> PyResult<Per> {
        let attributes = self.list(name, Per::MAX_ATTRIBUTES, |place, attribute| {
            parsed(&place, attribute, "the name of an attribute", Attribute::parse)
        })?;
        let accepted = "each attribute once";
        Per::new(attributes).ok_or_else(|| invalid(&self.place(name), "has one twice", accepted))
    }

    /// How a limit counts: five members, of which the algorithm says which are None.
    pub(super) fn counting(&mut self) -> PyResult<Counting> {
        let algorithm = self.name("algorithm", "an algorithm", |name| Some(name.to_owned()))?;
        let window = self.optional_integer("window_ns", u64::MAX)?;
        let window = window.map(|ns| Window::new(Duration::from_nanos(ns)));
        let refill = self.optional_amount("refill")?;
        let calendar = self.optional_name("calendar", Calendar::ACCEPTED, Calendar::parse)?;
        let zone = self.optional_name("time_zone", Zone::ACCEPTED, Zone::named)?;
        let counting = match (window, refill, calendar, zone) {
            (Some(Some(window)), None, None, None) => {
                match Counting::NAMES.iter().position(|name| *name == algorithm) {
                    Some(0) => Some(Counting::Log { window }),
                    Some(1) => Some(Counting::Counter { window }),
                    _ => None,
                }
            }
            (Some(Some(window)), Some(refill), None, None) => {
                Some(Counting::Bucket { window, refill })
            }
            (None, None, Some(calendar), Some(zone)) => Some(Counting::Calendar { calendar, zone }),
            (None, None, None, None) => Some(Counting::Concurrency),
            _ => None,
        };
        let counting = counting.filter(|counting| counting.name() == algorithm);
        counting.ok_or_else(|| {
            let problem =
                format!("is {}, with members that do not belong to it", quoted(&algorithm));
            invalid(&self.place("algorithm"), &problem, "an algorithm with its own members")
        })
    }
}

fn parsed<T>(
    place: &str,
    value: &Bound<'_, PyAny>,
    accepted: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> PyResult<T> {
    let text = text(place, value)?;
    parse(text).ok_or_else(|| invalid(place, &format!("is {}", quoted(text)), accepted))
}
