"""The interpreter of state machines, on its own: what each state does to its data, and what becomes of errors."""

import pytest
import states


def run(definition, data, tasks=None):
    """(output, how the time passed). A task is a function, by its resource."""
    slept = []
    machine = states.Machine(definition, lambda resource, given: tasks[resource](given), slept.append)
    return machine.run(data), slept


def one(state):
    return {"StartAt": "Only", "States": {"Only": {"End": True, **state}}}


def test_a_task_gets_its_parameters_and_puts_its_result_where_it_is_told():
    state = {
        "Type": "Task",
        "Resource": "add",
        "Parameters": {"sum": {"of.$": "$.numbers", "first.$": "$.numbers[0]"}, "kept": "$.numbers"},
        "ResultSelector": {"total.$": "$.total"},
        "ResultPath": "$.made.here",
    }
    given = []

    def add(payload):
        given.append(payload)
        return {"total": sum(payload["sum"]["of"]), "noise": True}

    output, _ = run(one(state), {"numbers": [1, 2, 3]}, {"add": add})
    assert given == [{"sum": {"of": [1, 2, 3], "first": 1}, "kept": "$.numbers"}]
    assert output == {"numbers": [1, 2, 3], "made": {"here": {"total": 6}}}


@pytest.mark.parametrize(
    "path, output",
    [("$", {"new": 1}), (None, {"old": 0}), ("$.at", {"old": 0, "at": {"new": 1}})],
)
def test_result_paths(path, output):
    assert run(one({"Type": "Pass", "Result": {"new": 1}, "ResultPath": path}), {"old": 0})[0] == output


def test_input_and_output_paths_choose_a_part():
    state = {"Type": "Task", "Resource": "echo", "InputPath": "$.in", "OutputPath": "$.out"}
    assert run(one(state), {"in": {"out": 7, "rest": 8}}, {"echo": lambda given: given})[0] == 7


@pytest.mark.parametrize(
    "rule, data, holds",
    [
        ({"Variable": "$.a", "StringEquals": "x"}, {"a": "x"}, True),
        ({"Variable": "$.a", "StringEquals": "x"}, {"a": 1}, False),
        ({"Variable": "$.a", "NumericGreaterThan": 3}, {"a": 4}, True),
        ({"Variable": "$.a", "NumericGreaterThan": 3}, {"a": True}, False),
        ({"Variable": "$.a", "NumericLessThanEqualsPath": "$.b"}, {"a": 3, "b": 3}, True),
        ({"Variable": "$.a", "BooleanEquals": False}, {"a": False}, True),
        ({"Variable": "$.a", "StringMatches": "log-*.txt"}, {"a": "log-7.txt"}, True),
        ({"Variable": "$.a", "IsPresent": False}, {}, True),
        ({"Variable": "$.a", "IsNull": True}, {"a": None}, True),
        ({"Not": {"Variable": "$.a", "IsString": True}}, {"a": 1}, True),
        ({"And": [{"Variable": "$.a", "IsNumeric": True}, {"Variable": "$.a", "NumericEquals": 2}]}, {"a": 1}, False),
        ({"Or": [{"Variable": "$.a", "NumericEquals": 1}, {"Variable": "$.a", "NumericEquals": 2}]}, {"a": 2}, True),
    ],
)
def test_choices(rule, data, holds):
    definition = {
        "StartAt": "Choose",
        "States": {
            "Choose": {"Type": "Choice", "Choices": [{**rule, "Next": "Yes"}], "Default": "No"},
            "Yes": {"Type": "Pass", "Result": True, "End": True},
            "No": {"Type": "Pass", "Result": False, "End": True},
        },
    }
    assert run(definition, data)[0] is holds


def test_without_a_default_no_choice_is_an_error():
    state = {"Type": "Choice", "Choices": [{"Variable": "$.a", "IsPresent": True, "Next": "Only"}]}
    with pytest.raises(states.StateError, match="States.NoChoiceMatched"):
        run({"StartAt": "Only", "States": {"Only": state}}, {})


def fails(times, name="Busy"):
    left = [times]

    def task(given):
        if left[0]:
            left[0] -= 1
            raise states.StateError(name, "told")
        return "done"

    return task


def test_a_retry_waits_longer_each_time():
    state = {
        "Type": "Task",
        "Resource": "task",
        "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 2, "BackoffRate": 3, "MaxAttempts": 3}],
    }
    assert run(one(state), {}, {"task": fails(3)}) == ("done", [2, 6, 18])
    with pytest.raises(states.StateError, match="Busy"):
        run(one(state), {}, {"task": fails(4)})


def test_a_retry_of_another_error_does_nothing():
    state = {"Type": "Task", "Resource": "task", "Retry": [{"ErrorEquals": ["Busy"]}]}
    with pytest.raises(states.StateError, match="Other"):
        run(one(state), {}, {"task": fails(1, "Other")})


@pytest.mark.parametrize("errors", [["Busy"], ["States.TaskFailed"], ["States.ALL"]])
def test_a_catch_leads_on_with_the_error(errors):
    definition = {
        "StartAt": "Task",
        "States": {
            "Task": {
                "Type": "Task",
                "Resource": "task",
                "Catch": [{"ErrorEquals": errors, "ResultPath": "$.error", "Next": "After"}],
                "End": True,
            },
            "After": {"Type": "Succeed"},
        },
    }
    output, _ = run(definition, {"kept": 1}, {"task": fails(1)})
    assert output == {"kept": 1, "error": {"Error": "Busy", "Cause": "told"}}


def test_branches_run_beside_each_other_on_copies():
    branch = lambda name: {"StartAt": name, "States": {name: {"Type": "Task", "Resource": name, "End": True}}}
    import threading

    both = threading.Barrier(2, timeout=10)

    def task(given):
        both.wait()
        given["mine"] = True
        return len(given)

    state = {"Type": "Parallel", "Branches": [branch("a"), branch("b")], "ResultPath": "$.sizes"}
    assert run(one(state), {"x": 1}, {"a": task, "b": task})[0] == {"x": 1, "sizes": [2, 2]}


def test_a_branch_that_fails_fails_them_all():
    branch = lambda name: {"StartAt": name, "States": {name: {"Type": "Task", "Resource": name, "End": True}}}
    state = {"Type": "Parallel", "Branches": [branch("good"), branch("bad")]}
    with pytest.raises(states.StateError, match="Busy"):
        run(one(state), {}, {"good": lambda given: 1, "bad": fails(1)})


def test_waits_take_their_seconds_from_the_state_or_the_data():
    assert run(one({"Type": "Wait", "Seconds": 10}), {})[1] == [10]
    assert run(one({"Type": "Wait", "SecondsPath": "$.s"}), {"s": 4})[1] == [4]


def test_fail_ends_with_its_error():
    definition = {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "Mine", "Cause": "said so"}}}
    with pytest.raises(states.StateError, match="Mine: said so"):
        run(definition, {})


@pytest.mark.parametrize(
    "definition",
    [
        {"StartAt": "Nowhere", "States": {}},
        one({"Type": "Map"}),
        one({"Type": "Pass", "Iterator": {}}),
        {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}},
        {"StartAt": "A", "States": {"A": {"Type": "Pass"}}},
        one({"Type": "Parallel", "Branches": [one({"Type": "Activity"})]}),
    ],
)
def test_what_is_not_interpreted_is_refused_beforehand(definition):
    with pytest.raises(states.InvalidDefinition):
        states.Machine(definition, None, None)


def test_a_path_to_nothing_is_an_error():
    with pytest.raises(states.StateError, match="States.ParameterPathFailure"):
        run(one({"Type": "Pass", "Parameters": {"a.$": "$.missing"}}), {})
