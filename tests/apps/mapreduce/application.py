"""MapReduce on functions: a driver, mappers, a coordinator that S3 calls, reducers."""

import collections
import json
import pathlib

import application
import lambdas

_FOLDER = pathlib.Path(__file__).resolve().parent / "functions"
_SOURCE, _JOBS = "crawl-data", "mapreduce-jobs"
_WORDS = "the of and to in a is that for it was on are as with his they at be this from have or by one had".split()


def _text(random):
    return "\n".join(" ".join(random.choices(_WORDS, k=random.randint(3, 12))) for _ in range(random.randint(10, 60)))


def _rankings(random):
    lines = (f"page{random.randint(1, 9999)}.html,{random.randint(1, 99)},{random.randint(1, 90)}" for _ in range(150))
    return "\n".join(lines)


def _user_visits(random):
    def line():
        address = ".".join(str(random.randint(1, 254)) for _ in range(4))
        return f"{address},page{random.randint(1, 99)}.html,1999-03-14,{random.randint(0, 99999) / 100:.2f},agent,USA,en,of,7"

    return "\n".join(line() for _ in range(random.randint(20, 100)))


def _expected(query, texts):
    """Computed directly, in another way than the functions do."""
    totals = collections.defaultdict(int)
    for line in "\n".join(texts).split("\n"):
        if query == "wordcount":
            for word in line.split():
                totals[word] += 1
        elif query == "rankings":
            rank = line.split(",")[1]
            if int(rank) > 50:
                totals[rank] += 1
        else:
            address, _, _, revenue, *_ = line.split(",")
            totals[address[:7]] += int(revenue.replace(".", ""))
    return dict(totals)


_INPUTS = {"wordcount": _text, "rankings": _rankings, "uservisits": _user_visits}


class MapReduce(application.Application):
    name = "mapreduce"

    def __init__(self, cloud):
        super().__init__(cloud)
        for bucket in (_SOURCE, _JOBS):
            cloud.create_bucket(bucket)
        self._s3 = cloud.client("s3")
        environment = {"POLL_SECONDS": str(20 * cloud.pace)}
        for name, endpoints, concurrency in (
            ("driver", (lambdas.S3, lambdas.LAMBDA), 1),
            ("mapper", (lambdas.S3,), 3),
            ("reducer-coordinator", (lambdas.S3, lambdas.LAMBDA), 1),
            ("reducer", (lambdas.S3,), 2),
        ):
            self.deploy(name, f"{name.replace('-', '_')}.handler", _FOLDER, endpoints, environment, concurrency)

    def round(self, random):
        query = random.choice(list(_INPUTS))
        dataset = f"{query}/{random.getrandbits(32):08x}"
        texts = [_INPUTS[query](random) for _ in range(random.randint(1, 9))]
        for number, text in enumerate(texts):
            self._s3.put_object(Bucket=_SOURCE, Key=f"{dataset}/part-{number:05}", Body=text.encode())
        job = f"job-{random.getrandbits(48):012x}"
        event = {
            "query": query,
            "source_bucket": _SOURCE,
            "prefix": f"{dataset}/",
            "job_bucket": _JOBS,
            "job": job,
            "coordinator_arn": lambdas.arn("reducer-coordinator"),
        }
        told = self.invoke("driver", event)
        self.cloud.settle()
        result = json.load(self._s3.get_object(Bucket=_JOBS, Key=f"{job}/result")["Body"])
        assert result == _expected(query, texts), f"{query} of {dataset} is wrong"
        assert told["lines"] == sum(len(text.split("\n")) for text in texts), told
        self._empty(_SOURCE, f"{dataset}/")
        self._empty(_JOBS, f"{job}/")
        return f"{query}, {len(texts)} files, {told['mappers']} mappers"

    def _empty(self, bucket, prefix):
        """Keeps the lists of later rounds short."""
        found = self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        self._s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": each["Key"]} for each in found]})
