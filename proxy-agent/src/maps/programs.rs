//! The object's programs.

use aya::Ebpf;
use aya::maps::ProgramArray;
use aya::programs::{ProgramError, SchedClassifier};
use proxy_ebpf::layout::Stage;

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
    /// Egress of a device.
    Egress,
    /// Egress of a device without link-layer headers.
    EgressIp,
}

impl ProgramName {
    /// All programs.
    pub const ALL: [Self; 6] = [
        Self::IngressPod,
        Self::IngressOutside,
        Self::IngressPodIp,
        Self::IngressOutsideIp,
        Self::Egress,
        Self::EgressIp,
    ];

    /// Those that every node needs: there are few devices without link-layer headers.
    pub(super) const USUAL: [Self; 3] = [Self::IngressPod, Self::IngressOutside, Self::Egress];

    /// Its name in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IngressPod => "ingress_pod",
            Self::IngressOutside => "ingress_outside",
            Self::IngressPodIp => "ingress_pod_ip",
            Self::IngressOutsideIp => "ingress_outside_ip",
            Self::Egress => "egress_any",
            Self::EgressIp => "egress_any_ip",
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
        loaded.map_err(|source| refused(name, source))?;
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
        .map_err(|source| refused(name, source))
}

pub(super) fn refused(name: &'static str, source: ProgramError) -> MapError {
    let source = source.into();
    MapError::Program { name, source }
}

/// Loads the programs that the others call, and tells those where they are.
pub(super) fn load_stages(object: &mut Ebpf) -> Result<(), MapError> {
    const MAP: &str = "STAGES";
    let written = |source| MapError::Write { map: MAP, source };
    for (stage, names) in Stage::ALL {
        for (version, name) in (0..).zip(names) {
            let failed = |source| refused(name, source);
            let program = classifier_named(object, name)?;
            program.load().map_err(failed)?;
            let program = program
                .fd()
                .and_then(|fd| fd.try_clone().map_err(Into::into))
                .map_err(failed)?;
            let map = object.map_mut(MAP).ok_or(MapError::Missing(MAP))?;
            let mut stages = ProgramArray::try_from(map).map_err(written)?;
            let index = stage.index(version);
            stages.set(index, &program, 0).map_err(written)?;
        }
    }
    Ok(())
}
