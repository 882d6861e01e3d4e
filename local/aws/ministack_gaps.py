"""MiniStack with what it lacks for our template. MiniStack's own Python runs this file, which knows no other of ours.

It ends, and the Lambdas with it, when its standard input closes.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from datetime import UTC, datetime
from typing import Any


def serve() -> None:
    from ministack import app

    threading.Thread(target=_end_with_whoever_started_this, daemon=True).start()
    _take_what_is_not_emulated()
    _take_metric_math()
    _make_the_routes_of_a_body()
    _tell_functions_the_stage_variables()
    _tell_functions_their_alias()
    _keep_schedules_on_time()
    app.main()


def _end_with_whoever_started_this() -> None:
    sys.stdin.read()
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _take_what_is_not_emulated() -> None:
    """CodeDeploy: a stack that names it is refused. Here an alias moves at once, and nothing looks at alarms."""
    from ministack.services.cloudformation import provisioners

    def create(logical_id: str, properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return f"{stack}-{logical_id}", {}

    def update(physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return physical_id, {}

    for kind in ("AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"):
        provisioners._RESOURCE_HANDLERS[kind] = {"create": create, "update": update, "delete": lambda *_: None}


def _take_metric_math() -> None:
    """An alarm on an expression is refused. Here it is kept as one on a metric of the expression's name."""
    from ministack.services.cloudformation import provisioners

    record = provisioners._cw_metric_alarm_record

    def with_metric_math(name: str, properties: dict[str, Any]) -> Any:
        if metrics := properties.get("Metrics"):
            single = {"Namespace": "MetricMath", "MetricName": metrics[0]["Id"]}
            properties = {key: value for key, value in properties.items() if key != "Metrics"} | single
        return record(name, properties)

    provisioners._cw_metric_alarm_record = with_metric_math


def _make_the_routes_of_a_body() -> None:
    """An HTTP API's OpenAPI body, which is where SAM writes its routes, is ignored."""
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


def _tell_functions_the_stage_variables() -> None:
    """An HTTP API's event lacks them."""
    from ministack.services import apigateway, lambda_svc

    execute = lambda_svc._execute_function_with_config_scope

    def with_stage_variables(function: Any, event: Any, *rest: Any) -> Any:
        match event:
            case {"version": "2.0", "requestContext": {"apiId": api, "stage": stage}}:
                event = event | {"stageVariables": apigateway._get_stage_variables(api, stage)}
        return execute(function, event, *rest)

    lambda_svc._execute_function_with_config_scope = with_stage_variables


def _tell_functions_their_alias() -> None:
    """A schedule's target is told the ARN of the version that its alias leads to."""
    from ministack.services import lambda_svc

    look_up = lambda_svc._get_func_record_for_ref

    def under_its_alias(reference: str) -> Any:
        function, configuration, name = look_up(reference)
        if configuration and reference.startswith("arn:"):
            configuration = configuration | {"FunctionArn": reference}
        return function, configuration, name

    lambda_svc._get_func_record_for_ref = under_its_alias


def _keep_schedules_on_time() -> None:
    """A minute lasts up to seventy seconds, and the time that a target's input asks for is left out."""
    from ministack.services import eventbridge, scheduler

    invoke = eventbridge._invoke_target

    def with_the_time(target: dict[str, Any], event: dict[str, Any], *rest: Any) -> None:
        if event["Source"] == "aws.scheduler" and "Input" in target:
            at = datetime.fromtimestamp(event["Time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            target = target | {"Input": target["Input"].replace("<aws.scheduler.scheduled-time>", at)}
        invoke(target, event, *rest)

    eventbridge._invoke_target = with_the_time
    scheduler._SCHEDULE_TICK_INTERVAL = 1


if __name__ == "__main__":
    serve()
