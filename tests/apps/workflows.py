"""Step Functions and CodePipeline, as far as the applications call them."""

import json
import secrets
import threading
import time
import uuid

import lambdas
import states


class Refused(Exception):
    """An API's error: its type and its message."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind, self.message = kind, message


class Execution:
    def __init__(self, machine, name, data):
        self.arn = machine.arn.replace(":stateMachine:", ":execution:") + ":" + name
        self.machine, self.name, self.input = machine, name, data
        self.status, self.output, self.error = "RUNNING", None, None
        self.started, self.stopped = time.time(), None


class StateMachine:
    def __init__(self, name, machine):
        self.arn = f"arn:aws:states:{lambdas.REGION}:{lambdas.ACCOUNT}:stateMachine:{name}"
        self.machine = machine


class StepFunctions:
    """StartExecution and DescribeExecution; state machines are made by `deploy`."""

    def __init__(self, cloud):
        self._cloud = cloud
        self._machines, self._executions = {}, {}

    def deploy(self, name, definition):
        """The ARN of a new state machine."""
        made = StateMachine(name, states.Machine(definition, self._invoke, self._cloud.sleep))
        self._machines[made.arn] = made
        return made.arn

    def _invoke(self, resource, payload):
        function = self._cloud.functions.get(lambdas.name_in(resource))
        if function is None:
            raise states.StateError("Lambda.ResourceNotFoundException", f"there is no function {resource}")
        result, failed = function.call(json.dumps(payload).encode())
        if failed:
            told = json.loads(result)
            raise states.StateError(told.get("errorType", "Unknown"), result.decode())
        return json.loads(result)

    def call(self, action, given):
        """The answer to an API call. Raises Refused."""
        if action == "StartExecution":
            return self._start(given)
        if action == "DescribeExecution":
            return self._describe(given)
        raise Refused("UnknownOperationException", f"{action} is not answered here")

    def _start(self, given):
        machine = self._machines.get(given.get("stateMachineArn"))
        if machine is None:
            raise Refused("StateMachineDoesNotExist", "State Machine Does Not Exist")
        try:
            data = json.loads(given.get("input", "{}"))
        except ValueError as error:
            raise Refused("InvalidExecutionInput", str(error)) from error
        execution = Execution(machine, given.get("name") or str(uuid.uuid4()), data)
        if execution.arn in self._executions:
            raise Refused("ExecutionAlreadyExists", "Execution Already Exists")
        self._executions[execution.arn] = execution
        self._cloud.work.begin()
        threading.Thread(target=self._run, args=(execution,), daemon=True).start()
        return {"executionArn": execution.arn, "startDate": execution.started}

    def _run(self, execution):
        try:
            execution.output = execution.machine.machine.run(execution.input)
            execution.status = "SUCCEEDED"
        except states.StateError as error:
            execution.error, execution.status = error, "FAILED"
        except Exception as error:
            self._cloud.fault(f"the interpreter failed: {error!r}")
            execution.error, execution.status = states.StateError("States.Runtime", repr(error)), "FAILED"
        finally:
            execution.stopped = time.time()
            self._cloud.work.end()

    def _describe(self, given):
        execution = self._executions.get(given.get("executionArn"))
        if execution is None:
            raise Refused("ExecutionDoesNotExist", "Execution Does Not Exist")
        told = {
            "executionArn": execution.arn,
            "stateMachineArn": execution.machine.arn,
            "name": execution.name,
            "status": execution.status,
            "startDate": execution.started,
            "input": json.dumps(execution.input),
        }
        if execution.status != "RUNNING":
            told["stopDate"] = execution.stopped
        if execution.status == "SUCCEEDED":
            told["output"] = json.dumps(execution.output)
        if execution.error is not None:
            told |= {"error": execution.error.name, "cause": execution.error.cause}
        return told


class Action:
    """An invoke action in a pipeline, from the first job to the last."""

    def __init__(self, function, parameters, artifact):
        self.function, self.parameters, self.artifact = function, parameters, artifact
        self.status, self.message, self.jobs = "InProgress", "", 0
        self.done = threading.Event()

    def end(self, status, message=""):
        self.status, self.message = status, message
        self.done.set()


class CodePipeline:
    """Invoke actions: a job is an event for a function, which says with PutJobSuccessResult or PutJobFailureResult what
    came of it. A success with a continuation token leads to another job after half a minute."""

    CONTINUE_S = 30

    def __init__(self, cloud):
        self._cloud = cloud
        self._jobs = {}

    def start(self, function, parameters, bucket, key):
        """Runs the action for a revision that lies in S3."""
        action = Action(function, parameters, (bucket, key))
        self._cloud.work.begin()
        self._job(action, None)
        return action

    def _job(self, action, token):
        identity = str(uuid.uuid4())
        self._jobs[identity] = action
        action.jobs += 1
        configuration = {"FunctionName": action.function, "UserParameters": json.dumps(action.parameters)}
        bucket, key = action.artifact
        location = {"type": "S3", "s3Location": {"bucketName": bucket, "objectKey": key}}
        data = {
            "actionConfiguration": {"configuration": configuration},
            "inputArtifacts": [{"name": "Revision", "revision": None, "location": location}],
            "outputArtifacts": [],
            "artifactCredentials": {
                "accessKeyId": "ASIA" + secrets.token_hex(8).upper(),
                "secretAccessKey": secrets.token_hex(20),
                "sessionToken": secrets.token_hex(20),
            },
        }
        if token is not None:
            data["continuationToken"] = token
        event = {"CodePipeline.job": {"id": identity, "accountId": lambdas.ACCOUNT, "data": data}}
        self._cloud.functions[action.function].invoke(json.dumps(event).encode(), event=True)

    def call(self, action, given):
        """The answer to an API call. Raises Refused."""
        if action not in ("PutJobSuccessResult", "PutJobFailureResult"):
            raise Refused("UnknownOperationException", f"{action} is not answered here")
        running = self._jobs.pop(given.get("jobId"), None)
        if running is None:
            raise Refused("JobNotFoundException", "there is no such job, or its result is known")
        if action == "PutJobFailureResult":
            self._end(running, "Failed", given["failureDetails"]["message"])
        elif given.get("continuationToken"):
            threading.Thread(target=self._later, args=(running, given["continuationToken"]), daemon=True).start()
        else:
            self._end(running, "Succeeded")
        return {}

    def _later(self, running, token):
        self._cloud.sleep(self.CONTINUE_S)
        self._job(running, token)

    def _end(self, running, status, message=""):
        running.end(status, message)
        self._cloud.work.end()
