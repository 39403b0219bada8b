//! The object's programs.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use aya::Ebpf;
use aya::maps::ProgramArray;
use aya::programs::{ProgramError, SchedClassifier};
use proxy_ebpf::layout::{Stage, maps};

use super::MapError;

/// A program of the object that runs at devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProgramName {
    /// Ingress of a pod's device.
    IngressPod,
    /// Ingress of any other device.
    IngressOutside,
    /// Ingress of a pod's device without link-layer headers.
    IngressPodIp,
    /// Ingress of any other device without link-layer headers.
    IngressOutsideIp,
    /// Egress of a pod's device.
    EgressPod,
    /// Egress of any other device.
    EgressOutside,
    /// Egress of a pod's device without link-layer headers.
    EgressPodIp,
    /// Egress of any other device without link-layer headers.
    EgressOutsideIp,
}

impl ProgramName {
    /// All programs.
    pub const ALL: [Self; 8] = [
        Self::IngressPod,
        Self::IngressOutside,
        Self::IngressPodIp,
        Self::IngressOutsideIp,
        Self::EgressPod,
        Self::EgressOutside,
        Self::EgressPodIp,
        Self::EgressOutsideIp,
    ];

    /// Those that every node needs: there are few devices without link-layer headers.
    pub(super) const USUAL: [Self; 4] = [
        Self::IngressPod,
        Self::IngressOutside,
        Self::EgressPod,
        Self::EgressOutside,
    ];

    /// Its name in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IngressPod => "ingress_pod",
            Self::IngressOutside => "ingress_outside",
            Self::IngressPodIp => "ingress_pod_ip",
            Self::IngressOutsideIp => "ingress_outside_ip",
            Self::EgressPod => "egress_pod",
            Self::EgressOutside => "egress_outside",
            Self::EgressPodIp => "egress_pod_ip",
            Self::EgressOutsideIp => "egress_outside_ip",
        }
    }
}

/// One of the object's programs, which is loaded now if it was not.
pub(crate) fn classifier(
    object: &mut Ebpf,
    name: ProgramName,
) -> Result<&mut SchedClassifier, MapError> {
    let name = name.as_str();
    let program = classifier_named(object, name)?;
    if program.fd().is_err() {
        let loaded = program.load();
        loaded.map_err(|source| rejected(name, source))?;
    }
    Ok(program)
}

fn classifier_named<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, MapError> {
    object
        .program_mut(name)
        .ok_or(MapError::Missing(name))?
        .try_into()
        .map_err(|source| rejected(name, source))
}

pub(super) fn rejected(name: &'static str, source: ProgramError) -> MapError {
    let source = source.into();
    MapError::Program { name, source }
}

/// Loads the programs that every node needs: those of usual devices, and the stages that
/// these call. The verifier takes a second for all of them, on one processor; so each
/// processor loads a part.
pub(super) fn load_usual(object: &mut Ebpf) -> Result<(), MapError> {
    let stages = Stage::ALL.iter().flat_map(|(_, names)| *names);
    let usual = ProgramName::USUAL.map(ProgramName::as_str);
    let mut wanted: HashSet<&str> = usual.into_iter().chain(stages).collect();
    let mut programs = Vec::with_capacity(wanted.len());
    for (name, program) in object.programs_mut() {
        if let Some(name) = wanted.take(name) {
            let program: &mut SchedClassifier = program
                .try_into()
                .map_err(|source| rejected(name, source))?;
            programs.push((name, program));
        }
    }
    if let Some(missing) = wanted.into_iter().next() {
        return Err(MapError::Missing(missing));
    }
    load_in_parallel(programs)?;
    enter_stages(object)
}

/// A rejection is reported once all threads are done: what is loaded then goes with the object.
fn load_in_parallel(programs: Vec<(&'static str, &mut SchedClassifier)>) -> Result<(), MapError> {
    let most = programs.len();
    let rest = Mutex::new(programs.into_iter());
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((name, program)) = next() {
            program.load().map_err(|source| rejected(name, source))?;
        }
        Ok(())
    };
    let processors = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(most);
    thread::scope(|scope| {
        let others: Vec<_> = (1..processors).map(|_| scope.spawn(work)).collect();
        let own = work();
        let done = others.into_iter().map(|it| {
            it.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        done.fold(own, Result::and)
    })
}

/// Writes the table of stages, by which programs call them.
fn enter_stages(object: &mut Ebpf) -> Result<(), MapError> {
    const MAP: &str = maps::STAGES.name;
    let written = |source| MapError::Write { map: MAP, source };
    for (stage, names) in Stage::ALL {
        for (version, name) in (0..).zip(*names) {
            let program = classifier_named(object, name)?;
            let program = program
                .fd()
                .and_then(|fd| fd.try_clone().map_err(Into::into))
                .map_err(|source| rejected(name, source))?;
            let map = object.map_mut(MAP).ok_or(MapError::Missing(MAP))?;
            let mut stages = ProgramArray::try_from(map).map_err(written)?;
            let index = stage.index(version);
            stages.set(index, &program, 0).map_err(written)?;
        }
    }
    Ok(())
}
