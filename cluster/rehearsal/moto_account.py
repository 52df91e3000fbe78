"""An AWS account in moto, for the rehearsal of cluster/aws.yaml: what it has, and what happens to its instances.

AWS_ENDPOINT_URL leads to moto.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import boto3

BUCKET = "my-bucket"  # as docs/deploying/aws.md calls it
ROLES = ("head", "worker")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=COMMANDS)
    COMMANDS[parser.parse_args().what]()


def prepare() -> None:
    """Make the bucket, the roles and the instance profiles of docs/deploying/aws.md."""
    s3, iam = boto3.client("s3"), boto3.client("iam")
    region = s3.meta.region_name
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": region})
    trust = _policy({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"})
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    bucket = _policy(
        {"Effect": "Allow", "Action": objects, "Resource": f"arn:aws:s3:::{BUCKET}/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"},
    )
    for role in ROLES:
        name = f"metacross-{role}"
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName=name, PolicyName="bucket", PolicyDocument=bucket)
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def follow() -> None:
    """Print a line for every instance that has begun or ceased to run, for ever.

    With "running" come its id, market, node type of Ray, private address, public address and public key.
    """
    running: set[str] = set()
    while True:
        now = {instance["InstanceId"]: instance for instance in _instances("running")}
        for gone in sorted(running - now.keys()):
            print("gone", gone, flush=True)
        for new in sorted(now.keys() - running):
            print("running", new, *_described(now[new]), flush=True)
        running = set(now)
        time.sleep(1)


def take_spot() -> None:
    """Terminate one spot instance, as AWS does when it wants it back, and print its id."""
    taken = next(i["InstanceId"] for i in _instances("running") if i.get("InstanceLifecycle") == "spot")
    boto3.client("ec2").terminate_instances(InstanceIds=[taken])
    print(taken)


def digests() -> None:
    """Print the digest of the weights of every run in the bucket, and the run's name."""
    s3 = boto3.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="runs/"):
        for key in (found["Key"] for found in page.get("Contents", [])):
            if key.endswith("/bundle/model.safetensors"):
                digest = hashlib.sha256(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()
                print(digest, key.split("/")[1])


def left() -> None:
    """Print what would still cost money: instances that are not terminated, and disks."""
    for instance in _instances("pending", "running", "shutting-down", "stopping", "stopped"):
        print(instance["InstanceId"], instance["State"]["Name"])
    for volume in boto3.client("ec2").describe_volumes()["Volumes"]:
        print(volume["VolumeId"])


def _instances(*states: str) -> Iterator[dict[str, Any]]:
    wanted = [{"Name": "instance-state-name", "Values": list(states)}]
    for page in boto3.client("ec2").get_paginator("describe_instances").paginate(Filters=wanted):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def _described(instance: dict[str, Any]) -> tuple[str, ...]:
    node_type = next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "ray-user-node-type")
    pairs = boto3.client("ec2").describe_key_pairs(KeyNames=[instance["KeyName"]], IncludePublicKey=True)
    market = instance.get("InstanceLifecycle", "on-demand")
    key = pairs["KeyPairs"][0]["PublicKey"]
    return market, node_type, instance["PrivateIpAddress"], instance["PublicIpAddress"], key


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


COMMANDS = {
    "prepare": prepare,
    "follow": follow,
    "take-spot": take_spot,
    "digests": digests,
    "left": left,
}

if __name__ == "__main__":
    main()
