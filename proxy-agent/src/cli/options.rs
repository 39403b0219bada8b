//! The options of the command `run`.
//!
//! What is also in the configuration file has no default here: what is not given is
//! left as the file has it.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::logging::{LOGGING, LogArgs};
use crate::config::{OptionName, Override, Setting, Settings, Source, settings};
use crate::source::kube::KubeSettings;

/// Kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SourceKind {
    /// The cluster's API server.
    Kube,
    /// A folder of YAML or JSON manifests, watched for changes.
    Files,
}

/// The options.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file of a kube-proxy (`KubeProxyConfiguration`), as it is;
    /// behind it, or in a file of its own, may stand a `ProxyAgentConfiguration`. May be given
    /// more than once: a file that is not there is passed over where another one is, and of
    /// each kind the first document counts. Files are watched: most settings take effect at
    /// once. Options given here count more than the files.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Vec<PathBuf>,

    /// Give connections to netfilter, remove all pins, filters and empty clsact qdiscs of this
    /// proxy from the machine, then exit. No agent may be running.
    #[arg(long)]
    pub(super) cleanup: bool,

    /// Where Services, EndpointSlices and Nodes come from.
    #[arg(long, value_enum, default_value_t = SourceKind::Kube)]
    source: SourceKind,

    /// The folder of manifests, for `--source files`.
    #[arg(long, value_name = "DIR", required_if_eq("source", "files"))]
    manifests: Option<PathBuf>,

    /// The API server's address, in place of the configured one, such as
    /// `https://192.0.2.1:6443`; an empty one is none. It must not be the address of the
    /// Service `kubernetes`, which this proxy itself makes reachable.
    #[arg(long, value_name = "URL", env = "API_SERVER")]
    master: Option<String>,

    #[command(flatten)]
    settings: SettingArgs,

    #[command(flatten)]
    pub(super) log: LogArgs,
}

impl RunArgs {
    /// What is given here in the place of what the file says.
    pub(super) fn overrides(&self) -> Vec<Override> {
        self.settings.0.clone()
    }

    /// Where the objects come from, under `settings`.
    pub(super) fn source(&self, settings: &Settings) -> Source {
        match (self.source, &self.manifests) {
            (SourceKind::Files, Some(manifests)) => Source::Files(manifests.clone()),
            _ => Source::Kube(KubeSettings {
                kubeconfig: settings.kubeconfig.clone(),
                master: self.master.clone().filter(|address| !address.is_empty()),
                pods: settings.own.pod_opt_out,
            }),
        }
    }
}

/// The options of settings, of which the table of settings knows.
#[derive(Clone, Debug)]
struct SettingArgs(Vec<Override>);

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        command.args(options().map(|(setting, option)| arg(setting, option)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = options().filter_map(|(_, option)| matches.get_one(option.name).cloned());
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn options() -> impl Iterator<Item = (&'static Setting, OptionName)> {
    settings().filter_map(|setting| Some((setting, setting.option()?)))
}

/// The heading of its group in the help.
fn heading(setting: &Setting) -> Option<&'static str> {
    match setting.group() {
        "mapSizes" => Some("Map sizes (elements)"),
        "logging" => Some(LOGGING),
        _ => None,
    }
}

fn arg(setting: &'static Setting, option: OptionName) -> Arg {
    let (summary, reason) = setting.summary_and_reason();
    let default = match setting.default_text() {
        text if text.is_empty() => reason.trim_end_matches('.').to_owned(),
        text => text,
    };
    let arg = Arg::new(option.name)
        .long(option.name)
        .value_name(option.value)
        .help(format!(
            "{} [default: {default}]",
            summary.trim_end_matches('.')
        ))
        .help_heading(heading(setting));
    let arg = match option.alias {
        Some(alias) => arg.visible_alias(alias),
        None => arg,
    };
    let arg = match option.env {
        Some(variable) => arg.env(variable),
        None => arg,
    };
    let arg = if setting.is_switch() {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    };
    let names = setting.names().iter().map(|(name, meaning)| {
        let value = PossibleValue::new(*name);
        match meaning.trim().trim_end_matches('.') {
            "" => value,
            meaning => value.help(meaning),
        }
    });
    if names.len() > 0 {
        let read = move |name: String| setting.read_option(&name);
        arg.value_parser(PossibleValuesParser::new(names).try_map(read))
    } else {
        arg.value_parser(move |text: &str| setting.read_option(text))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{AttachMode, SocketPathMode, XdpChoice, with_overrides};
    use crate::model::object::{Algorithm, Forwarding};

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        run: RunArgs,
    }

    /// What options make of settings that a file could have.
    fn over_a_file(options: &[&str]) -> Settings {
        let settings = Settings {
            node_name: Some("of-the-file".to_owned()),
            kubeconfig: Some("/file".into()),
            masquerade_all: true,
            ..Settings::default()
        };
        let line = ["proxy-agent"].iter().chain(options);
        let whole = Whole::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
        with_overrides(settings, &whole.run.overrides())
    }

    #[test]
    fn only_options_that_are_given_count_more_than_the_file() {
        let untouched = over_a_file(&[]);
        assert_eq!(untouched.node_name.as_deref(), Some("of-the-file"));
        assert!(untouched.masquerade_all);
        for (options, change) in [
            (
                &["--hostname-override", " Node1 "][..],
                (|it| it.node_name = Some("node1".to_owned())) as fn(&mut Settings),
            ),
            (&["--node-name=node1"], |it| {
                it.node_name = Some("node1".to_owned());
            }),
            (&["--hostname-override="], |_| {}),
            (&["--masquerade-all=false"], |it| it.masquerade_all = false),
            (&["--masquerade-all"], |_| {}),
            (&["--kubeconfig", "/f"], |it| {
                it.kubeconfig = Some("/f".into());
            }),
            (&["--metrics-bind-address", "127.0.0.1:1"], |it| {
                it.metrics_address = ([127, 0, 0, 1], 1).into();
            }),
            (&["--map-flows=64"], |it| it.own.maps.flows = 64),
            (&["--attach=clsact"], |it| {
                it.own.attach = AttachMode::Clsact;
            }),
            (&["--bpffs=none"], |it| it.own.bpffs = None),
            (&["--bpffs=/b"], |it| it.own.bpffs = Some("/b".into())),
            (&["--xdp=never"], |it| it.own.xdp = XdpChoice::Never),
            (&["--lb-algorithm=maglev"], |it| {
                it.own.algorithm = Algorithm::Maglev;
            }),
            (&["--forwarding=dsr"], |it| {
                it.own.forwarding = Forwarding::Dsr;
            }),
            (&["--socket-path=host-only"], |it| {
                it.own.socket_path = SocketPathMode::HostOnly;
            }),
            (&["--pod-opt-out"], |it| it.own.pod_opt_out = true),
            (&["--cgroup", "/c"], |it| it.own.cgroup = Some("/c".into())),
            (&["--log-format=json"], |it| it.log.json = true),
        ] {
            let mut expected = untouched.clone();
            change(&mut expected);
            assert_eq!(over_a_file(options), expected, "{options:?}");
        }
    }
}
