//! The policies that others name in `overrides`: they must exist, and nobody may override itself in a circle.

use std::collections::{HashMap, HashSet};

use super::PolicySetError;
use crate::{Policy, PolicyId};

/// Refuses names of `policies` that are not among `ids`, and circles.
pub(super) fn check(policies: &[Policy], ids: &HashSet<&PolicyId>) -> Result<(), PolicySetError> {
    for policy in policies {
        if let Some(unknown) = policy.overrides.iter().find(|id| !ids.contains(id)) {
            return Err(PolicySetError::UnknownOverride {
                policy: policy.id.clone(),
                overrides: unknown.clone(),
            });
        }
    }
    match override_cycle(policies) {
        None => Ok(()),
        Some(cycle) => {
            let id = |index: usize| Some(policies.get(index)?.id.clone());
            Err(PolicySetError::OverrideCycle(cycle.into_iter().filter_map(id).collect()))
        }
    }
}

/// The indices of policies each of which names the next in `overrides`, and the last the first; `None` if there are none.
///
/// Names of policies that are not in `policies` are ignored. O(policies + names).
pub fn override_cycle(policies: &[Policy]) -> Option<Vec<usize>> {
    let indices: HashMap<&PolicyId, usize> =
        policies.iter().map(|policy| &policy.id).zip(0..).collect();
    let mut is_done = vec![false; policies.len()];
    let mut place_on_path: Vec<Option<usize>> = vec![None; policies.len()];
    for start in 0..policies.len() {
        if is_done[start] {
            continue;
        }
        // Depth first, without recursion: the path, each with how many of its names were followed.
        let mut path = vec![(start, 0)];
        place_on_path[start] = Some(0);
        while let Some((policy, followed)) = path.last_mut() {
            let Some(id) = policies[*policy].overrides.get(*followed) else {
                is_done[*policy] = true;
                place_on_path[*policy] = None;
                path.pop();
                continue;
            };
            *followed += 1;
            let Some(&next) = indices.get(id) else { continue };
            if let Some(begin) = place_on_path[next] {
                return Some(path[begin..].iter().map(|(policy, _)| *policy).collect());
            }
            if !is_done[next] {
                place_on_path[next] = Some(path.len());
                path.push((next, 0));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicySet;

    /// The id of a policy, and the ids that it overrides.
    type Named<'a> = (&'a str, &'a [&'a str]);

    fn policies(overrides: &[Named<'_>]) -> Vec<Policy> {
        let id = |id: &str| PolicyId::new(id).unwrap();
        let named = overrides.iter().map(|(own, names)| Policy {
            id: id(own),
            overrides: names.iter().map(|name| id(name)).collect(),
            ..Policy::default_policy()
        });
        named.collect()
    }

    #[test]
    fn circles_and_unknown_names_are_refused() {
        let cases: [(&[Named<'_>], Result<(), &str>); 6] = [
            (&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])], Ok(())),
            (&[("a", &["a"])], Err("in a circle: \"a\" → \"a\"")),
            (&[("a", &["b"]), ("b", &["a"])], Err("in a circle: \"a\" → \"b\" → \"a\"")),
            (
                &[("a", &["b"]), ("b", &["c", "d"]), ("c", &[]), ("d", &["b"])],
                Err("in a circle: \"b\" → \"d\" → \"b\""),
            ),
            (&[("a", &[]), ("b", &["x"])], Err("policy \"b\" overrides \"x\", which is no policy")),
            (&[("c", &["a"]), ("a", &["b"]), ("b", &[])], Ok(())),
        ];
        for (overrides, expected) in cases {
            let made = PolicySet::new(policies(overrides)).map(drop);
            match (made, expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(says)) => assert!(error.to_string().ends_with(says), "{error}"),
                (made, expected) => panic!("{overrides:?}: {made:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let ids: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        let chain = ids.windows(2).map(|pair| (pair[0].clone(), vec![pair[1].clone()]));
        let last = ids.last().map(|id| (id.clone(), Vec::new()));
        let policies: Vec<_> = chain
            .chain(last)
            .map(|(own, names)| Policy {
                id: PolicyId::new(&own).unwrap(),
                overrides: names.iter().map(|name| PolicyId::new(name).unwrap()).collect(),
                ..Policy::default_policy()
            })
            .collect();
        assert_eq!(override_cycle(&policies), None);
    }
}
