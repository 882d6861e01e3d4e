"""MiniStack, extended with the features that our template needs. MiniStack's own Python runs this file alone.

It ends, and the Lambdas with it, when its standard input closes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def serve() -> None:
    from ministack import app

    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    _accept_codedeploy()
    _accept_metric_math()
    _create_routes_from_the_body()
    _add_stage_variables_to_events()
    _pass_the_alias_to_functions()
    _keep_schedules_on_time()
    _lead_databases_to_postgres()
    app.main()


def _end_with_the_starter() -> None:
    sys.stdin.read()
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _accept_codedeploy() -> None:
    """MiniStack refuses a stack with CodeDeploy. Here an alias moves at once, and no alarm stops it."""
    from ministack.services.cloudformation import provisioners

    def create(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return f"{stack}-{logical_id}", {}

    def update(physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return physical_id, {}

    for kind in ("AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"):
        provisioners._RESOURCE_HANDLERS[kind] = {"create": create, "update": update, "delete": lambda *_: None}


def _accept_metric_math() -> None:
    """MiniStack refuses an alarm on an expression. Here it becomes an alarm on a metric with the expression's name."""
    from ministack.services.cloudformation import provisioners

    record = provisioners._cw_metric_alarm_record

    def with_metric_math(name: str, properties: dict[str, Any]) -> Any:
        if metrics := properties.get("Metrics"):
            single = {"Namespace": "MetricMath", "MetricName": metrics[0]["Id"]}
            properties = {key: value for key, value in properties.items() if key != "Metrics"} | single
        return record(name, properties)

    provisioners._cw_metric_alarm_record = with_metric_math


def _create_routes_from_the_body() -> None:
    """MiniStack ignores an HTTP API's OpenAPI body, into which SAM writes the routes."""
    from ministack.services.cloudformation import provisioners

    handlers = provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::Api"]
    create_api, update_api = handlers["create"], handlers["update"]

    def route(api: str, body: dict[str, Any], stack: str) -> None:
        provisioners._apigw_v2._routes[api] = {}
        for path, operations in body.get("paths", {}).items():
            for method, operation in operations.items():
                lambda_ = {"ApiId": api, "IntegrationUri": operation["x-amazon-apigateway-integration"]["uri"]}
                integration, _ = provisioners._apigw_v2_integration_create("", lambda_, stack)
                key = {"RouteKey": f"{method.upper()} {path}", "Target": f"integrations/{integration}"}
                provisioners._apigw_v2_route_create("", {"ApiId": api, **key}, stack)

    def create(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        api, attributes = create_api(logical_id, properties, stack)
        route(api, properties.get("Body", {}), stack)
        return api, attributes

    def update(api: str, old: dict[str, Any], new: dict[str, Any], stack: str, *rest: Any) -> Any:
        updated = update_api(api, old, new, stack, *rest)
        route(api, new.get("Body", {}), stack)
        return updated

    handlers |= {"create": create, "update": update}


def _add_stage_variables_to_events() -> None:
    """The events of MiniStack's HTTP API lack them."""
    from ministack.services import apigateway, lambda_svc

    execute = lambda_svc._execute_function_with_config_scope

    def with_stage_variables(function: Any, event: Any, *rest: Any) -> Any:
        match event:
            case {"version": "2.0", "requestContext": {"apiId": api, "stage": stage}}:
                event = event | {"stageVariables": apigateway._get_stage_variables(api, stage)}
        return execute(function, event, *rest)

    lambda_svc._execute_function_with_config_scope = with_stage_variables


def _pass_the_alias_to_functions() -> None:
    """MiniStack passes a schedule's target the ARN of the version behind the alias, AWS that of the alias."""
    from ministack.services import lambda_svc

    look_up = lambda_svc._get_func_record_for_ref

    def under_its_alias(reference: str) -> Any:
        function, configuration, name = look_up(reference)
        if configuration and reference.startswith("arn:"):
            configuration = configuration | {"FunctionArn": reference}
        return function, configuration, name

    lambda_svc._get_func_record_for_ref = under_its_alias


def _keep_schedules_on_time() -> None:
    """In MiniStack a minute takes up to seventy seconds, and `<aws.scheduler.scheduled-time>` is not replaced."""
    from ministack.services import eventbridge, scheduler

    invoke = eventbridge._invoke_target

    def with_the_time(target: dict[str, Any], event: dict[str, Any], *rest: Any) -> None:
        if event["Source"] == "aws.scheduler" and "Input" in target:
            at = datetime.fromtimestamp(event["Time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            target = target | {"Input": target["Input"].replace("<aws.scheduler.scheduled-time>", at)}
        invoke(target, event, *rest)

    eventbridge._invoke_target = with_the_time
    scheduler._SCHEDULE_TICK_INTERVAL = 1


def _lead_databases_to_postgres() -> None:
    """MiniStack has no RDS Proxy, no rules of security groups by themselves, and no secret of a master user.

    Here a cluster and its proxy lead to the server that the file `postgres.json` in the temporary folder names: by its
    master user, by host and port for the proxy, and by the folder of its socket, for which libpq uses no TLS.
    """
    from ministack.services.cloudformation import provisioners

    create_cluster = provisioners._RESOURCE_HANDLERS["AWS::RDS::DBCluster"]["create"]

    def server() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(os.environ["TMPDIR"], "postgres.json").read_text())
        return found

    def cluster(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        identifier, attributes = create_cluster(logical_id, properties, stack)
        login = json.dumps({"username": server()["master"], "password": "of the master user"})
        _, secret = provisioners._sm_secret_create(f"{logical_id}Master", {"SecretString": login}, stack)
        place = {"Endpoint.Address": server()["socket"], "Endpoint.Port": str(server()["port"])}
        return identifier, attributes | place | {"MasterUserSecret.SecretArn": secret["Arn"]}

    def proxy(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        # The template adds the port of Postgres, so the port of the server is that of a first host.
        endpoint = f"{server()['host']}:{server()['port']},{server()['host']}"
        arn = f"arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-{properties['DBProxyName']}"
        return properties["DBProxyName"], {"Endpoint": endpoint, "DBProxyArn": arn}

    def nothing(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return f"{stack}-{logical_id}", {}

    provisioners._RESOURCE_HANDLERS["AWS::RDS::DBCluster"]["create"] = cluster
    rules = ("AWS::EC2::SecurityGroupEgress", "AWS::EC2::SecurityGroupIngress")
    for kind, create in {
        "AWS::RDS::DBProxy": proxy,
        **dict.fromkeys((*rules, "AWS::RDS::DBProxyTargetGroup"), nothing),
    }.items():
        provisioners._RESOURCE_HANDLERS[kind] = {"create": create, "delete": lambda *_: None}


if __name__ == "__main__":
    serve()
