"""An image pipeline: S3 calls a function for each photo, which uploads renditions in parallel."""

import pathlib
import uuid

import application
import lambdas

_FOLDER = pathlib.Path(__file__).resolve().parent / "functions"
_PHOTOS, _RENDITIONS, _TABLE = "photos", "photo-renditions", "photo-metadata"


class Images(application.Application):
    name = "images"

    def __init__(self, cloud):
        super().__init__(cloud)
        for bucket in (_PHOTOS, _RENDITIONS):
            cloud.create_bucket(bucket)
        self._s3, self._dynamodb = cloud.client("s3"), cloud.client("dynamodb")
        self._dynamodb.create_table(
            TableName=_TABLE,
            KeySchema=[{"AttributeName": "photo", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "photo", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        environment = {"RENDITIONS_BUCKET": _RENDITIONS, "TABLE": _TABLE}
        endpoints = (lambdas.S3, lambdas.DYNAMODB)
        self.deploy("renditions", "renditions.handler", _FOLDER, endpoints, environment, concurrency=2)
        rules = [{"Name": "prefix", "Value": "uploads/"}, {"Name": "suffix", "Value": ".ppm"}]
        calls = {
            "LambdaFunctionArn": lambdas.arn("renditions"),
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": rules}},
        }
        self._s3.put_bucket_notification_configuration(
            Bucket=_PHOTOS, NotificationConfiguration={"LambdaFunctionConfigurations": [calls]}
        )

    def round(self, random):
        user = random.randint(1, 500)
        key = f"uploads/{user}/{uuid.UUID(int=random.getrandbits(128), version=4)}.ppm"
        width, height = random.choice([12, 24, 48, 96, 160]), random.randint(8, 40)
        pixels = random.randbytes(width * height * 3)
        broken = random.random() < 0.1
        data = b"P6 %d %d 255\n" % (width, height) + (pixels[:-5] if broken else pixels)
        self._s3.put_object(Bucket=_PHOTOS, Key=key, Body=data)
        self.cloud.settle()
        item = self._dynamodb.get_item(TableName=_TABLE, Key={"photo": {"S": key}})["Item"]
        if broken:
            assert item["status"]["S"] == "rejected", item
            return "a broken photo"
        assert (item["width"]["N"], item["height"]["N"]) == (str(width), str(height)), item
        expected = [each for each in (16, 32, 64, 128) if each < width]
        made = [each["S"] for each in item["renditions"]["L"]]
        assert made == [f"{each}/{key.removeprefix('uploads/')}" for each in expected], (made, expected)
        for target, smaller in zip(made, expected, strict=True):
            found = self._s3.get_object(Bucket=_RENDITIONS, Key=target)["Body"].read()
            lines = max(1, height * smaller // width)
            assert found.startswith(b"P6 %d %d 255\n" % (smaller, lines)) and found.endswith(
                _last_row(pixels, width, height, smaller, lines)
            ), target
        return f"{width}x{height}, {len(made)} renditions"


def _last_row(pixels, width, height, smaller, lines):
    """The lowest line of a rendition, computed from the original."""
    row = (lines - 1) * height // lines
    places = [row * width + x * width // smaller for x in range(smaller)]
    return b"".join(pixels[3 * at : 3 * at + 3] for at in places)
