//! How a node takes part in its groups.

use std::collections::BTreeMap;

use crate::config::{CoreConfig, Priority};
use crate::types::GroupId;

/// How a node takes part in one group. Make one with `default` and change what should differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GroupOptions {
    /// How much this node wants to lead the group. Default [`Priority::Normal`].
    pub priority: Priority,
    /// Whether reads may rely on this node's lease while it leads the group: see
    /// [`Consistency::Lease`](crate::runtime::Consistency::Lease). Default no: such reads are confirmed by a quorum.
    pub lease_reads: bool,
}

/// What holds for which group.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) every: GroupOptions,
    pub(super) exceptions: BTreeMap<GroupId, GroupOptions>,
    pub(super) succession: bool,
}

impl Options {
    pub(super) fn apply_to(&self, config: &mut CoreConfig) {
        let GroupOptions { priority, lease_reads } = *self.exceptions.get(&config.group).unwrap_or(&self.every);
        config.priority = priority;
        config.lease_reads = lease_reads;
        config.succession = self.succession;
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { every: GroupOptions::default(), exceptions: BTreeMap::new(), succession: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn what_is_said_of_one_group_stands_above_what_is_said_of_all() {
        let every = GroupOptions { priority: Priority::Low, lease_reads: true };
        let exceptions = BTreeMap::from([(GroupId(2), GroupOptions::default())]);
        let options = Options { every, exceptions, succession: false };
        let config = |group| {
            let mut config = CoreConfig::new(NodeId(1), GroupId(group), 0);
            options.apply_to(&mut config);
            (config.priority, config.lease_reads, config.succession)
        };
        assert_eq!(config(1), (Priority::Low, true, false));
        assert_eq!(config(2), (Priority::Normal, false, false));
    }
}
