//! Enums whose values have names, for settings and annotations.

/// One of a few values, each with a name.
pub trait Choice: Copy + 'static {
    /// Their names, each with what it means.
    const NAMES: &'static [(&'static str, &'static str)];

    /// The value of this name.
    fn of_name(name: &str) -> Option<Self>;

    /// Its name.
    fn name(self) -> &'static str;
}

/// Declares an enum that is a [`Choice`]: each value with its name, and its meaning as its
/// documentation. The first one is the default.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        pub enum $enum:ident {
            $(#[doc = $first_meaning:literal])*
            $first:ident = $first_name:literal,
            $( $(#[doc = $meaning:literal])* $value:ident = $name:literal, )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $enum {
            $(#[doc = $first_meaning])*
            #[default]
            $first,
            $( $(#[doc = $meaning])* $value, )*
        }

        impl $enum {
            /// The value of this name.
            pub fn of_name(name: &str) -> Option<Self> {
                match name {
                    $first_name => Some(Self::$first),
                    $( $name => Some(Self::$value), )*
                    _ => None,
                }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    Self::$first => $first_name,
                    $( Self::$value => $name, )*
                }
            }
        }

        impl $crate::choice::Choice for $enum {
            const NAMES: &'static [(&'static str, &'static str)] = &[
                ($first_name, concat!($($first_meaning),*)),
                $( ($name, concat!($($meaning),*)), )*
            ];

            fn of_name(name: &str) -> Option<Self> {
                Self::of_name(name)
            }

            fn name(self) -> &'static str {
                self.name()
            }
        }
    };
}

pub(crate) use choice;
