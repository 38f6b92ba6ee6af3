"""What every application here has: the functions it is made of, and a round of it with random input."""

import abc
import json

import lambdas


class Application(abc.ABC):
    """Deploys its functions and services when it is made. A round draws its input from `random`, runs the application,
    and raises AssertionError where the result is not what a direct computation says."""

    name = ""

    def __init__(self, cloud):
        self.cloud = cloud
        self.functions = []

    def deploy(self, name, *arguments, kind=lambdas.Function, **options):
        """A function of this application, as a lambdas.Specification says it."""
        self.functions.append(self.cloud.deploy(lambdas.Specification(name, *arguments, **options), kind))

    @abc.abstractmethod
    def round(self, random):
        """Runs the application once; returns a short description of the input, for people."""

    def invoke(self, function, event):
        """The result of a function that is called from outside."""
        result, failed = self.cloud.functions[function].call(json.dumps(event).encode())
        assert not failed, f"{function} failed: {result.decode()}"
        return json.loads(result)
