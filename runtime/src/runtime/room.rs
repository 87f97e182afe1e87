//! Whether a node has room for a pipeline's stages beside those that run: checked before it is applied, because a stage
//! that finds no room when it starts takes down what was promised to run.

use crate::limits::{INSTANCES_MAX, TASKS_MAX};
use crate::pipeline::{PipelineSpec, Problem, Severity};

/// Instances of one task: a version that is tried on some partitions has a chain of its own beside the other.
pub(super) fn instances_of(plugins: usize, is_tried: bool) -> usize {
    if is_tried { plugins * 2 } else { plugins }
}

/// `others` are the stages of the other pipelines: their tasks, and the instances of each. `is_tried` says of which plugins
/// another version is tried.
pub(super) fn check(
    spec: &PipelineSpec,
    others: impl Iterator<Item = (u32, usize)>,
    is_tried: impl Fn(&str) -> bool,
) -> Result<(), Problem> {
    let mut tasks = 0;
    let mut instances = 0;
    let mut add = |parallelism: u32, instances_of_task: usize| {
        tasks += u64::from(parallelism);
        instances += u64::from(parallelism) * instances_of_task as u64;
        (tasks, instances)
    };
    for (parallelism, instances) in others {
        add(parallelism, instances);
    }
    for stage in &spec.stages {
        let is_tried = stage.plugins.iter().any(|plugin| is_tried(&plugin.name));
        let (tasks, instances) = add(stage.parallelism, instances_of(stage.plugins.len(), is_tried));
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
        check_tried(stages, parallelism, plugins, "")
    }

    fn check_tried(stages: usize, parallelism: u32, plugins: &str, tried: &str) -> Result<(), String> {
        let mut text = "pipeline: p\nplugins: {a: a.wasm}\nstages:\n".to_owned();
        for stage in 0..stages {
            text += &format!("  s{stage}: {{from: in, to: out, parallelism: {parallelism}{plugins}}}\n");
        }
        let spec = parse("p.yaml", &text).unwrap();
        check(&spec, std::iter::empty(), |name| name == tried).map_err(|problem| problem.to_string())
    }

    /// Symptom: a pipeline was applied, and some of its stages failed for good, because the pool of instances was
    /// exhausted; a file with thousands of stages had no errors. Cause: only each stage on its own was limited. Fix: all
    /// stages of a node are counted.
    #[test]
    fn stages_are_counted_together() {
        assert_eq!(check_stages(16, 64, ", plugins: [a, a]"), Ok(()));
        assert_eq!(check_stages(32, 32, ""), Ok(()));
        let error = check_stages(17, 64, "").unwrap_err();
        assert!(
            error.starts_with("p.yaml:20:3: error: with stage \"s16\" the node's stages have 1088 tasks"),
            "{error}"
        );
        let error = check_stages(11, 64, ", plugins: [a, a, a]").unwrap_err();
        assert!(
            error.contains("with stage \"s10\" the node's stages have 2112 instances of plugins"),
            "{error}"
        );
    }
    /// Symptom: a pipeline was applied whose stages found no room. Cause: a version that is tried on some partitions has a
    /// chain of its own in each task, which was not counted.
    #[test]
    fn versions_that_are_tried_count() {
        assert_eq!(check_tried(8, 64, ", plugins: [a, a]", "a"), Ok(()));
        let error = check_tried(9, 64, ", plugins: [a, a]", "a").unwrap_err();
        assert!(error.contains("with stage \"s8\" the node's stages have 2304 instances"), "{error}");
        assert_eq!(check_tried(9, 64, ", plugins: [a, a]", "c"), Ok(()));
        // The whole chain is there twice.
        let error = check_tried(9, 64, ", plugins: [a, b]", "b").unwrap_err();
        assert!(error.contains("with stage \"s8\" the node's stages have 2304 instances"), "{error}");
        let spec = parse("p.yaml", "pipeline: p\nstages:\n  s: {from: in, to: out}\n").unwrap();
        assert!(check(&spec, [(32, instances_of(64, true))].into_iter(), |_| false).is_err());
        assert!(check(&spec, [(32, instances_of(64, false))].into_iter(), |_| false).is_ok());
    }
}
