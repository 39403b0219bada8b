//! A namespace with the rules of many Services whose endpoints are nowhere.

mod partial;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Directory, Namespace};

use super::{
    super::{objects::Objects, rules::Rules},
    lab,
    load::{ENDPOINTS, rules_node},
    variant::Variant,
};

/// The rules of one variant. Fields drop in order.
pub(super) struct Loaded {
    pub(super) variant: Variant,
    /// How long a full sync took.
    pub(super) took: Duration,
    objects: Objects,
    place: Namespace,
    directory: Directory,
}

impl Loaded {
    /// Loads the rules by a full sync.
    pub(super) fn new(variant: Variant, services: u32) -> Result<Self> {
        let objects = Objects::new(services, ENDPOINTS, false)?;
        let rules = Rules::of(&rules_node(1)?, objects.all())?;
        let directory = Directory::create()?;
        let place = Namespace::create(directory.name(), &["rules"])?.remove(0);
        let took = lab::sync_rules(variant, &rules, &place, directory.path())?;
        Ok(Self {
            variant,
            took,
            objects,
            place,
            directory,
        })
    }

    /// Changes endpoints one after the other, for some time or so many.
    pub(super) fn change_for(&mut self, span: Duration, changes: u32) -> Result<Vec<Duration>> {
        let began = Instant::now();
        let mut took = Vec::new();
        while took.is_empty() || (began.elapsed() < span && took.len() < changes as usize) {
            took.push(self.change()?);
        }
        Ok(took)
    }

    /// Changes one; how long the program took.
    fn change(&mut self) -> Result<Duration> {
        let (_, change) = self.objects.change();
        let node = rules_node(1)?;
        let of_service = Rules::of(&node, self.objects.of_service(change.service))?;
        let (program, arguments, text): (_, &[&str], _) = if self.variant == Variant::Iptables {
            let all = Rules::of(&node, self.objects.all())?.iptables();
            let text = partial::iptables(&all, &of_service.iptables());
            ("iptables-restore", &["--noflush"], text)
        } else {
            (
                "nft",
                &["-f", "-"],
                partial::nftables(&of_service.nftables()),
            )
        };
        let file = self.directory.path().join("change");
        fs::write(&file, text).with_context(|| format!("{}: write", file.display()))?;
        lab::run_loader(program, arguments, &file, &self.place)
    }
}
