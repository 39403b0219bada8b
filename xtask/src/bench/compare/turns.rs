//! Rounds in which each contender has its turn, and what comes of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{
    super::report::{Position, Row, Spread},
    clock::Clock,
    variant::Variant,
};

/// One of those that are compared.
#[derive(Clone, Debug)]
pub(super) struct Contender<W> {
    pub(super) variant: &'static str,
    pub(super) to: String,
    pub(super) services: Option<u32>,
    pub(super) position: Option<Position>,
    /// The others of the same class are compared with this one.
    pub(super) is_limit: bool,
    /// What it is to do.
    pub(super) work: W,
}

impl<W> Contender<W> {
    pub(super) fn new(variant: Variant, to: &str, work: W) -> Self {
        Self {
            variant: variant.name(),
            to: to.to_owned(),
            services: None,
            position: None,
            is_limit: false,
            work,
        }
    }

    /// The one that the others are compared with.
    pub(super) fn limit(mut self) -> Self {
        self.is_limit = true;
        self
    }

    pub(super) fn among(mut self, services: u32) -> Self {
        self.services = Some(services);
        self
    }

    pub(super) fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }
}

/// A value of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) aspect: &'static str,
    pub(super) unit: &'static str,
    pub(super) amount: f64,
}

/// A value of one run.
pub(super) fn value(aspect: &'static str, unit: &'static str, amount: f64) -> Value {
    Value {
        aspect,
        unit,
        amount,
    }
}

/// Has every contender run once a round, in another order each round.
///
/// # Errors
///
/// The first run that fails, and a value that is no positive number.
pub(super) fn take<W>(
    what: &str,
    rounds: u32,
    contenders: &[Contender<W>],
    clock: &Clock,
    mut run: impl FnMut(&W) -> Result<Vec<Value>>,
) -> Result<Vec<Row>> {
    let mut found: Vec<Found> = contenders.iter().map(|_| Found::default()).collect();
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    let mut random = Random(1);
    for round in 1..=rounds {
        random.shuffle(&mut order);
        let mut values = vec![Vec::new(); contenders.len()];
        for &turn in &order {
            let Contender { variant, to, .. } = &contenders[turn];
            clock.progress(&format!(
                "{what}, round {round} of {rounds}: {variant}, {to}"
            ));
            let run = run(&contenders[turn].work);
            values[turn] = run.with_context(|| format!("{what}: {variant}, {to}"))?;
        }
        let limit = contenders.iter().position(|it| it.is_limit);
        let limits = limit.map(|limit| values[limit].clone());
        for (found, values) in found.iter_mut().zip(values) {
            found.add(&values, limits.as_deref())?;
        }
    }
    let rows = contenders.iter().zip(found).flat_map(rows_of);
    Ok(rows.collect())
}

/// All runs of one contender, by aspect in the order in which they come.
#[derive(Default)]
struct Found {
    aspects: Vec<(&'static str, &'static str)>,
    values: BTreeMap<&'static str, Vec<f64>>,
    ratios: BTreeMap<&'static str, Vec<f64>>,
}

impl Found {
    fn add(&mut self, values: &[Value], limits: Option<&[Value]>) -> Result<()> {
        for value in values {
            let Value { aspect, unit, .. } = *value;
            ensure!(
                value.amount.is_finite() && value.amount > 0.0,
                "{aspect} is {} {unit}",
                value.amount
            );
            if !self.values.contains_key(aspect) {
                self.aspects.push((aspect, unit));
            }
            self.values.entry(aspect).or_default().push(value.amount);
            let limit = limits.and_then(|it| it.iter().find(|it| it.aspect == aspect));
            if let Some(limit) = limit {
                let ratio = value.amount / limit.amount;
                self.ratios.entry(aspect).or_default().push(ratio);
            }
        }
        Ok(())
    }
}

fn rows_of<W>((contender, found): (&Contender<W>, Found)) -> Vec<Row> {
    let rows = found.aspects.iter().filter_map(|(aspect, unit)| {
        let ratios = found.ratios.get(aspect);
        Some(Row {
            variant: contender.variant.to_owned(),
            to: contender.to.clone(),
            services: contender.services,
            position: contender.position,
            aspect: (*aspect).to_owned(),
            unit: (*unit).to_owned(),
            value: Spread::of(&found.values[aspect])?,
            of_limit: ratios.and_then(|it| Spread::of(it)),
        })
    });
    rows.collect()
}

/// A linear congruential generator (Knuth, MMIX): the same order in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contenders() -> [Contender<f64>; 2] {
        [
            Contender::new(Variant::None, "Pod", 100.0).limit(),
            Contender::new(Variant::Tc, "ClusterIP", 90.0).among(5),
        ]
    }

    #[test]
    fn values_are_compared_with_the_limit_of_their_round() {
        let mut runs = 0_u8;
        let rows = take("rate", 4, &contenders(), &Clock::start(), |speed| {
            // Both get faster with each round, in whatever order they run.
            let round = f64::from(runs / 2 + 1);
            runs += 1;
            Ok(vec![value("rate", "1/s", speed * round)])
        });
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].value.runs, rows[1].services), (4, Some(5)));
        assert!((rows[0].of_limit.unwrap().median - 1.0).abs() < 1e-9);
        assert!((rows[1].of_limit.unwrap().median - 0.9).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_no_value() {
        let run = |_: &f64| Ok(vec![value("rate", "1/s", 0.0)]);
        let error = take("rate", 1, &contenders(), &Clock::start(), run).unwrap_err();
        assert!(format!("{error:#}").contains("rate is 0 1/s"), "{error:#}");
    }

    #[test]
    fn every_order_has_everybody_once() {
        let mut random = Random(1);
        let mut order: Vec<usize> = (0..9).collect();
        random.shuffle(&mut order);
        assert_ne!(order, (0..9).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..9).collect::<Vec<_>>());
    }
}
