"""An interpreter of the Amazon States Language, as far as the applications here use it: Task, Choice, Wait, Pass,
Succeed, Fail, Parallel, with Retry, Catch and the paths of JSON. What it does not know it refuses when a state machine
is made, not in the middle of an execution."""

import copy
import fnmatch
import operator
import re
import threading

_FIELDS = {
    "Task": {"Resource", "TimeoutSeconds", "Retry", "Catch", "Parameters", "ResultSelector", "ResultPath"},
    "Parallel": {"Branches", "Retry", "Catch", "Parameters", "ResultSelector", "ResultPath"},
    "Pass": {"Result", "Parameters", "ResultPath"},
    "Choice": {"Choices", "Default"},
    "Wait": {"Seconds", "SecondsPath"},
    "Succeed": set(),
    "Fail": {"Error", "Cause"},
}
_COMMON = {"Type", "Comment", "Next", "End", "InputPath", "OutputPath"}
_TRANSITIONS_MAX = 25_000  # as long as the history of an execution may be


class StateError(Exception):
    """An error with a name, which Retry and Catch look at."""

    def __init__(self, name, cause=""):
        super().__init__(f"{name}: {cause}")
        self.name, self.cause = name, cause


class InvalidDefinition(Exception):
    """What Step Functions would not have taken."""


def check(definition):
    """Refuses what could not be run: unknown types and fields, states that do not exist."""
    states = definition.get("States", {})
    if definition.get("StartAt") not in states:
        raise InvalidDefinition(f"StartAt names no state: {definition.get('StartAt')}")
    for name, state in states.items():
        kind = state.get("Type")
        if kind not in _FIELDS:
            raise InvalidDefinition(f"{name}: a state of type {kind} is not interpreted here")
        if unknown := set(state) - _FIELDS[kind] - _COMMON:
            raise InvalidDefinition(f"{name}: {', '.join(sorted(unknown))} is not interpreted here")
        for target in _targets(state):
            if target not in states:
                raise InvalidDefinition(f"{name} leads to {target}, which is no state")
        if kind not in ("Choice", "Succeed", "Fail") and ("Next" in state) == bool(state.get("End")):
            raise InvalidDefinition(f"{name} needs either Next or End")
        for branch in state.get("Branches", []):
            check(branch)


def _targets(state):
    if "Next" in state:
        yield state["Next"]
    if "Default" in state:
        yield state["Default"]
    for choice in [*state.get("Choices", []), *state.get("Catch", [])]:
        yield choice["Next"]


def _steps(path):
    """ "$.a.b[0]" as ["a", "b", 0]."""
    if not re.fullmatch(r"\$(\.[A-Za-z_][\w-]*|\[\d+\])*", path):
        raise StateError("States.Runtime", f"the path {path!r} is not interpreted here")
    return [int(index) if index else name for name, index in re.findall(r"\.([\w-]+)|\[(\d+)\]", path)]


def _look_up(data, path):
    for step in _steps(path):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            raise StateError("States.ParameterPathFailure", f"there is nothing at {path}") from None
    return data


def _is_there(data, path):
    try:
        _look_up(data, path)
    except StateError:
        return False
    return True


def _fill(template, data):
    """Parameters and ResultSelector: fields whose name ends in ".$" are paths into `data`."""
    if isinstance(template, list):
        return [_fill(value, data) for value in template]
    if not isinstance(template, dict):
        return template
    filled = {}
    for name, value in template.items():
        if name.endswith(".$"):
            filled[name[:-2]] = _look_up(data, value)
        else:
            filled[name] = _fill(value, data)
    return filled


def _put(data, path, value):
    """ResultPath: `data` with `value` at the place; null throws the value away."""
    if path is None:
        return data
    steps = _steps(path)
    if not steps:
        return value
    made = copy.deepcopy(data) if isinstance(data, dict) else {}
    place = made
    for step in steps[:-1]:
        place = place.setdefault(step, {})
    place[steps[-1]] = value
    return made


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_ORDERS = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}
_KINDS = {
    "String": lambda value: isinstance(value, str),
    "Numeric": _is_number,
    "Boolean": lambda value: isinstance(value, bool),
}
_TESTS = {
    "StringMatches": lambda value, wanted: isinstance(value, str) and fnmatch.fnmatchcase(value, wanted),
    "IsNull": lambda value, wanted: (value is None) == wanted,
    "IsString": lambda value, wanted: isinstance(value, str) == wanted,
    "IsNumeric": lambda value, wanted: _is_number(value) == wanted,
    "IsBoolean": lambda value, wanted: isinstance(value, bool) == wanted,
}


def _compare(name, value, wanted, data):
    if name in _TESTS:
        return _TESTS[name](value, wanted)
    if name.endswith("Path"):
        name, wanted = name.removesuffix("Path"), _look_up(data, wanted)
    for kind, is_kind in _KINDS.items():
        if name.startswith(kind) and name.removeprefix(kind) in _ORDERS:
            return is_kind(value) and is_kind(wanted) and _ORDERS[name.removeprefix(kind)](value, wanted)
    raise StateError("States.Runtime", f"the comparison {name} is not interpreted here")


def _holds(rule, data):
    if "And" in rule:
        return all(_holds(each, data) for each in rule["And"])
    if "Or" in rule:
        return any(_holds(each, data) for each in rule["Or"])
    if "Not" in rule:
        return not _holds(rule["Not"], data)
    (name,) = set(rule) - {"Variable", "Next", "Comment"}
    if name == "IsPresent":
        return _is_there(data, rule["Variable"]) == rule[name]
    return _compare(name, _look_up(data, rule["Variable"]), rule[name], data)


def _covers(entry, error):
    wanted = entry["ErrorEquals"]
    if error.name in wanted:
        return True
    if "States.TaskFailed" in wanted:
        return not error.name.startswith("States.")
    return "States.ALL" in wanted


class Machine:
    """A state machine. `invoke(resource, payload)` runs a task and returns its result, or raises StateError;
    `sleep(seconds)` lets the time of the state machine pass."""

    def __init__(self, definition, invoke, sleep):
        check(definition)
        self._definition, self._invoke, self._sleep = definition, invoke, sleep

    def run(self, data):
        """The output of an execution. Raises the StateError that ended it."""
        return self._run(self._definition, data)

    def _run(self, definition, data):
        name = definition["StartAt"]
        for _ in range(_TRANSITIONS_MAX):
            name, data = self._step(definition["States"][name], data)
            if name is None:
                return data
        raise StateError("States.Runtime", "the history is full")

    def _step(self, state, raw):
        """(the next state's name, its input); None for the end."""
        data = {} if state.get("InputPath", "$") is None else _look_up(raw, state.get("InputPath", "$"))
        kind = state["Type"]
        if kind == "Fail":
            raise StateError(state.get("Error", "States.Fail"), state.get("Cause", ""))
        if kind == "Choice":
            return self._choose(state, data), data
        if kind in ("Task", "Parallel"):
            after, result = self._try(state, raw, data)
            if after is not None:
                return after, result
        elif kind == "Wait":
            self._sleep(_look_up(data, state["SecondsPath"]) if "SecondsPath" in state else state["Seconds"])
            result = data
        elif kind == "Pass":
            made = state.get("Result", _fill(state["Parameters"], data) if "Parameters" in state else data)
            result = _put(raw, state.get("ResultPath", "$"), made)
        else:
            result = data
        output = {} if state.get("OutputPath", "$") is None else _look_up(result, state.get("OutputPath", "$"))
        return state.get("Next"), output

    def _choose(self, state, data):
        for rule in state["Choices"]:
            if _holds(rule, data):
                return rule["Next"]
        if "Default" not in state:
            raise StateError("States.NoChoiceMatched")
        return state["Default"]

    def _try(self, state, raw, data):
        """(None, the output), or where a Catch leads and the input there."""
        given = _fill(state["Parameters"], data) if "Parameters" in state else data
        attempts = {}
        while True:
            try:
                result = self._work(state, given)
            except StateError as error:
                if self._again(state, error, attempts):
                    continue
                for entry in state.get("Catch", []):
                    if _covers(entry, error):
                        told = {"Error": error.name, "Cause": error.cause}
                        return entry["Next"], _put(raw, entry.get("ResultPath", "$"), told)
                raise
            if "ResultSelector" in state:
                result = _fill(state["ResultSelector"], result)
            return None, _put(raw, state.get("ResultPath", "$"), result)

    def _again(self, state, error, attempts):
        """Waits as the first Retry that covers the error says. False: it is not tried again."""
        for index, entry in enumerate(state.get("Retry", [])):
            if not _covers(entry, error):
                continue
            made = attempts.get(index, 0)
            if made >= entry.get("MaxAttempts", 3):
                return False
            attempts[index] = made + 1
            self._sleep(entry.get("IntervalSeconds", 1) * entry.get("BackoffRate", 2.0) ** made)
            return True
        return False

    def _work(self, state, given):
        if state["Type"] == "Task":
            return self._invoke(state["Resource"], given)
        results, errors = [None] * len(state["Branches"]), []

        def branch(index, definition):
            try:
                results[index] = self._run(definition, copy.deepcopy(given))
            except StateError as error:
                errors.append(error)

        threads = [threading.Thread(target=branch, args=each) for each in enumerate(state["Branches"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results
