//! Scripts: a state and some packets in few bytes, for the fuzzer.

use anyhow::Result;

use super::{Choices, Hook, fixtures};

/// What a fuzzer tries: a state of the node, and frames that come one after the
/// other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// Bytes that choose the state.
    pub state: [u8; Self::STATE],
    /// What happens.
    pub steps: Vec<Step>,
}

/// One frame of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Where it is seen.
    pub hook: Hook,
    /// Whether it begins at once with IP.
    pub bare: bool,
    /// What happens before; 0 is nothing.
    pub event: u8,
    /// Its bytes.
    pub frame: Vec<u8>,
}

impl Script {
    /// Number of bytes that choose the state.
    pub const STATE: usize = 4;
    /// Steps that are carried out.
    const STEPS: usize = 6;

    /// Any bytes are a script.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let state = std::array::from_fn(|_| choices.byte());
        let mut steps = Vec::new();
        while !choices.is_over() && steps.len() < Self::STEPS {
            let how = choices.byte();
            let event = choices.byte();
            let length = usize::from(choices.short());
            steps.push(Step {
                hook: [Hook::FromOutside, Hook::FromPod, Hook::Out, Hook::FromHost]
                    [usize::from(how & 3)],
                bare: how & 4 != 0,
                event,
                frame: choices.bytes(length).to_vec(),
            });
        }
        Self { state, steps }
    }

    /// The bytes that decode to this script.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.state.to_vec();
        for step in &self.steps {
            let hook = match step.hook {
                Hook::FromOutside => 0,
                Hook::FromPod => 1,
                Hook::Out => 2,
                Hook::FromHost => 3,
            };
            let length = u16::try_from(step.frame.len()).expect("a frame");
            bytes.extend([hook | if step.bare { 4 } else { 0 }, step.event]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(&step.frame);
        }
        bytes
    }
}

/// Scripts to begin with, with a name for each: the fixtures, each with the one
/// before it, since a reply needs its flow.
///
/// # Errors
/// Like [`fixtures()`].
pub fn seeds() -> Result<Vec<(String, Vec<u8>)>> {
    let suites = fixtures()?;
    let steps: Vec<_> = suites
        .iter()
        .flat_map(|suite| &suite.fixtures)
        .map(|fixture| Step {
            hook: fixture.hook,
            bare: false,
            event: 0,
            frame: fixture.packet.build(),
        })
        .collect();
    let script = |steps: &[Step]| Script {
        state: [0; Script::STATE],
        steps: steps.to_vec(),
    };
    let pairs = steps.windows(2).enumerate();
    Ok(pairs
        .map(|(at, steps)| (format!("fixture-{at:03}"), script(steps).encode()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_its_encoding() {
        for (name, bytes) in seeds().unwrap() {
            let script = Script::decode(&bytes);
            assert_eq!(script.steps.len(), 2, "{name}");
            assert_eq!(script.encode(), bytes, "{name}");
        }
    }
}
