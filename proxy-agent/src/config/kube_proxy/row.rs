//! A row of a table of settings, and how it is written.

/// An option of the command line.
#[derive(Clone, Copy, Debug)]
pub struct OptionName {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What stands for its value in the help.
    pub value: &'static str,
    /// Another name.
    pub alias: Option<&'static str>,
    /// A variable of the environment that sets it too.
    pub env: Option<&'static str>,
}

/// What a row says beside field, type and default.
#[derive(Debug)]
pub(super) struct Row {
    /// The path of its field in a file, such as `mapSizes.flows`.
    pub(super) path: &'static str,
    /// Its name in the log.
    pub(super) name: &'static str,
    /// Its option.
    pub(super) option: Option<OptionName>,
    /// Why a change of it takes effect only after a restart; none where it does at once.
    pub(super) restart: Option<&'static str>,
}

/// A setting that changes at run time.
pub(super) const fn hot(path: &'static str) -> Row {
    Row {
        path,
        name: path,
        option: None,
        restart: None,
    }
}

/// A setting that needs a restart, with the reason.
pub(super) const fn restart(path: &'static str, why: &'static str) -> Row {
    Row {
        restart: Some(why),
        ..hot(path)
    }
}

impl Row {
    /// Has an option.
    pub(super) const fn option(self, name: &'static str, value: &'static str) -> Self {
        let option = Some(OptionName {
            name,
            value,
            alias: None,
            env: None,
        });
        Self { option, ..self }
    }

    /// The option has another name, and a variable of the environment.
    pub(super) const fn alias_and_env(self, alias: &'static str, env: &'static str) -> Self {
        let option = match self.option {
            Some(option) => Some(OptionName {
                alias: Some(alias),
                env: Some(env),
                ..option
            }),
            None => None,
        };
        Self { option, ..self }
    }

    /// Is called otherwise than its field in the log.
    pub(super) const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

/// Declares a struct of settings, its defaults, and their `TABLE`.
///
/// After the struct's name stands where it is in [`Settings`](super::Settings). A row is
/// `field: type = default, form, row;`, after its documentation. Behind the rows may stand
/// fields that are no settings themselves.
macro_rules! settings_table {
    (
        $(#[$attribute:meta])*
        pub struct $group:ident, |$settings:ident| $at:expr, of $document:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty = $default:expr, $form:expr, $row:expr;
            )*
        }
        $( $(#[doc = $other_doc:literal])* $other:ident: $other_type:ty = $other_default:expr; )*
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $group {
            $( $(#[doc = $doc])* pub $field: $type, )*
            $( $(#[doc = $other_doc])* pub $other: $other_type, )*
        }

        impl Default for $group {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $( $other: $other_default, )*
                }
            }
        }

        impl $group {
            /// The table.
            pub(super) const TABLE: &'static [$crate::config::kube_proxy::table::Setting] = &[$({
                use $crate::config::kube_proxy::form::Form;
                use $crate::config::kube_proxy::table::{Access, Setting};
                Setting {
                    document: $document,
                    doc: &[$($doc),*],
                    row: $row,
                    access: Access {
                        kind: || Form::<$type>::kind(&$form),
                        set: |$settings, value| {
                            $at.$field = $form.read(value)?;
                            Ok(())
                        },
                        show: |$settings| $form.show(&$at.$field),
                        copy: |$settings, from| {
                            let value = { let $settings = from; $at.$field.clone() };
                            $at.$field = value;
                        },
                    },
                }
            }),*];
        }
    };
}

pub(super) use settings_table;
