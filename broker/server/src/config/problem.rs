//! Something wrong with a configuration, shown with file, line, column, snippet and hint.
//! What must not live here: what is wrong with it (`schema`, `read`).

use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report,
    Severity,
};

use crate::config::tree::{Place, Sources};

/// One thing that is wrong, or worth a word.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    severity: Severity,
    message: String,
    label: Option<(Place, String)>,
    help: Option<String>,
}

impl Problem {
    /// The broker does not start.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), label: None, help: None }
    }

    /// The broker starts.
    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Where, and what stands there.
    pub(crate) fn at(mut self, place: Place, label: impl Into<String>) -> Self {
        self.label = Some((place, label.into()));
        self
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it is a word of warning only.
    pub(crate) fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// The order in which people read: by source, then by place.
    pub(crate) fn order(&self) -> Option<&Place> {
        self.label.as_ref().map(|(place, _)| place)
    }

    /// As text of several lines.
    pub(crate) fn render(&self, sources: &Sources, colour: bool) -> String {
        let mut diagnostic = MietteDiagnostic::new(&self.message).with_severity(self.severity);
        if let Some(help) = &self.help {
            diagnostic = diagnostic.with_help(help);
        }
        if let Some((place, label)) = &self.label {
            diagnostic = diagnostic.with_label(LabeledSpan::at(place.span(), label));
        }
        let source = self.label.as_ref().and_then(|(place, _)| sources.get(place.source()));
        let report = match source {
            Some(source) => Report::new(diagnostic)
                .with_source_code(NamedSource::new(&source.name, source.text.clone())),
            None => Report::new(diagnostic),
        };
        let theme =
            if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        let handler =
            GraphicalReportHandler::new_themed(theme).with_width(100).with_context_lines(1);
        match handler.render_report(&mut text, report.as_ref()) {
            Ok(()) => text,
            Err(fmt::Error) => self.message.clone(),
        }
    }
}

/// Problems and the texts that they point into; at least one is an error.
#[derive(Debug)]
pub(crate) struct Problems {
    /// What they point into.
    pub sources: Sources,
    /// In the order of reading.
    pub list: Vec<Problem>,
}

impl Problems {
    /// A problem that no text shows.
    pub(crate) fn one(problem: Problem) -> Self {
        Self { sources: Sources::default(), list: vec![problem] }
    }

    /// All of them as text.
    pub(crate) fn render(&self, colour: bool) -> String {
        let texts: Vec<String> =
            self.list.iter().map(|problem| problem.render(&self.sources, colour)).collect();
        texts.join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Problems {}
