//! Whether a node has room for a pipeline's stages beside those that run: checked before it is applied, because a stage
//! that finds no room when it starts takes down what was promised to run.

use crate::limits::{INSTANCES_MAX, TASKS_MAX};
use crate::pipeline::{PipelineSpec, Problem, Severity};
use crate::stage::StageSpec;

/// `others` are the stages of the other pipelines.
pub(super) fn check<'a>(
    spec: &PipelineSpec,
    others: impl Iterator<Item = &'a StageSpec>,
) -> Result<(), Problem> {
    let mut tasks = 0;
    let mut instances = 0;
    let mut add = |parallelism: u32, plugins: usize| {
        tasks += u64::from(parallelism);
        instances += u64::from(parallelism) * plugins as u64;
        (tasks, instances)
    };
    for stage in others {
        add(stage.parallelism, stage.plugins.len());
    }
    for stage in &spec.stages {
        let (tasks, instances) = add(stage.parallelism, stage.plugins.len());
        let (what, wanted, max) = if tasks > TASKS_MAX.into() {
            ("tasks", tasks, TASKS_MAX)
        } else if instances > INSTANCES_MAX.into() {
            ("instances of plugins", instances, INSTANCES_MAX)
        } else {
            continue;
        };
        return Err(Problem {
            severity: Severity::Error,
            file: spec.file.clone(),
            place: stage.place,
            message: format!(
                "with stage {:?} the node's stages have {wanted} {what}, of which a node runs {max}",
                stage.name
            ),
            remedy: Some(
                "lower its \"parallelism\", or that of others: `millstream status` shows them".to_owned(),
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::parse;

    fn check_stages(stages: usize, parallelism: u32, plugins: &str) -> Result<(), String> {
        let mut text = "pipeline: p\nplugins: {a: a.wasm}\nstages:\n".to_owned();
        for stage in 0..stages {
            text += &format!("  s{stage}: {{from: in, to: out, parallelism: {parallelism}{plugins}}}\n");
        }
        let spec = parse("p.yaml", &text).unwrap();
        check(&spec, std::iter::empty()).map_err(|problem| problem.to_string())
    }

    /// Symptom: a pipeline was applied, and some of its stages failed for good, because the pool of instances was
    /// exhausted; a file with thousands of stages had no errors. Cause: only each stage on its own was limited. Fix: all
    /// stages of a node are counted.
    #[test]
    fn stages_are_counted_together() {
        assert_eq!(check_stages(4, 64, ", plugin: a"), Ok(()));
        assert_eq!(check_stages(8, 32, ""), Ok(()));
        let error = check_stages(5, 64, "").unwrap_err();
        assert!(
            error.starts_with("p.yaml:8:3: error: with stage \"s4\" the node's stages have 320 tasks"),
            "{error}"
        );
        let error = check_stages(3, 64, ", plugins: [a, a]").unwrap_err();
        assert!(
            error.contains("with stage \"s2\" the node's stages have 384 instances of plugins"),
            "{error}"
        );
    }
}
