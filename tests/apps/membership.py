"""Functions as members of an application: a controller gives their guards policies and flow graphs."""

import threading


class Membership:
    def __init__(self, controller, application):
        self.controller, self.application = controller, application
        self._given, self._lock = {}, threading.Lock()
        controller.do("app", "create", application)

    def flags(self, function, policy, graph=None):
        """Those of a guard of this function, after its controller has been told what it is to have."""
        token = self.controller.folder / f"{self.application}.{function}.token"
        with self._lock:
            if function not in self._given:
                token.write_text(self.controller.do("token", "create", "-a", self.application, "-f", function))
            if self._given.get(function) != (policy, graph):
                if graph:
                    self.controller.put("graph", graph, application=self.application, function=function)
                self.controller.put("policy", policy, application=self.application, function=function)
                self._given[function] = (policy, graph)
        return ["--controller", self.controller.url, "--controller-ca", self.controller.data / "ca.pem",
                "--application", self.application, "--function", function, "--join-token-file", token]

    def put_graph(self, text):
        self.controller.put("application-graph", text, application=self.application)

    def alarms(self):
        return self.controller.alarms(self.application)
