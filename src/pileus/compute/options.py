"""Options of the compute service: section `[compute]` of pileus.toml."""

from __future__ import annotations

from typing import Annotated

from pileus.compute.agent.options import AgentOptions
from pileus.kernel.config import Doc


class Options(AgentOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an operator may say about compute. Times are seconds, memory is MiB, disk is GiB."""

    default_availability_zone: Annotated[str, Doc("Zone of hosts that are in no aggregate with a zone of its own.")] = (
        "nova"
    )
    internal_availability_zone: Annotated[str, Doc("Zone in which the services that run no servers are shown.")] = (
        "internal"
    )
    default_schedule_zone: Annotated[str, Doc("Zone of servers whose creator names none; empty means any zone.")] = ""

    cpu_allocation_ratio: Annotated[float, Doc("How often each CPU of a host may be given away.")] = 16.0
    ram_allocation_ratio: Annotated[float, Doc("How often each MiB of a host's memory may be given away.")] = 1.5
    disk_allocation_ratio: Annotated[float, Doc("How often each GiB of a host's disk may be given away.")] = 1.0
    reserved_host_cpus: Annotated[int, Doc("CPUs of each host that are kept from servers.")] = 0
    reserved_host_memory_mb: Annotated[int, Doc("MiB of memory of each host that are kept from servers.")] = 512
    reserved_host_disk_mb: Annotated[int, Doc("MiB of disk of each host that are kept from servers.")] = 0

    max_attempts: Annotated[int, Doc("On how many hosts a server is tried before it is given up.")] = 3
    migrate_max_retries: Annotated[int, Doc("How many further hosts a live migration tries when one refuses it; -1: all there are.")] = -1
    max_candidates: Annotated[int, Doc("How many hosts placement may propose for one server.")] = 1000
    cpu_weight: Annotated[float, Doc("Weight of free CPUs when hosts are compared.")] = 1.0
    ram_weight: Annotated[float, Doc("Weight of free memory when hosts are compared.")] = 1.0
    disk_weight: Annotated[float, Doc("Weight of free disk when hosts are compared.")] = 1.0
    io_weight: Annotated[float, Doc("Weight of servers in work on a host; negative spreads them.")] = -1.0
    soft_affinity_weight: Annotated[float, Doc("Weight of the soft affinity policies of server groups.")] = 1.0

    allow_resize_to_same_host: Annotated[bool, Doc("Whether a resize may leave a server on its host.")] = True
    resize_confirm_window: Annotated[
        int, Doc("After how long a resize that nobody confirms is confirmed by itself; 0 never.")
    ] = 0

    build_deadline: Annotated[int, Doc("How long a build may take in all, image download included.")] = 3600
    vif_plugging_timeout: Annotated[int, Doc("How long a new guest waits for its ports; 0 does not wait.")] = 300
    vif_plugging_is_fatal: Annotated[bool, Doc("Whether a port that is not plugged in time fails the build.")] = True
    shutdown_timeout: Annotated[int, Doc("How long a guest may take to shut down before it is switched off.")] = 60
    host_call_timeout: Annotated[float, Doc("How long a host may take to answer one call.")] = 60.0
    service_down_time: Annotated[int, Doc("After how long without a report a host counts as down.")] = 60

    enable_instance_password: Annotated[bool, Doc("Whether a new server is given an administrator password.")] = True
    vendor_data: Annotated[dict[str, str], Doc("Content of vendor_data.json for all guests.")] = {}
    dhcp_domain: Annotated[str, Doc("Domain appended to the host name that the EC2 metadata tells.")] = "novalocal"

    max_limit: Annotated[int, Doc("Most items in one page of a list.")] = 1000
    network_info_seconds: Annotated[float, Doc("How often all addresses are compared with the network service.")] = 60.0
    deleted_retention: Annotated[int, Doc("How long deleted servers are remembered.")] = 7 * 86400

    quota_instances: Annotated[int, Doc("Servers of a project; -1 is no limit, here and below.")] = 10
    quota_cores: Annotated[int, Doc("Virtual CPUs of a project.")] = 20
    quota_ram: Annotated[int, Doc("Memory of a project, MiB.")] = 50 * 1024
    quota_metadata_items: Annotated[int, Doc("Metadata items of a server.")] = 128
    quota_injected_files: Annotated[int, Doc("Files given to a new server.")] = 5
    quota_injected_file_content_bytes: Annotated[int, Doc("Bytes of each of those files.")] = 10 * 1024
    quota_injected_file_path_length: Annotated[int, Doc("Length of the path of each of those files.")] = 255
    quota_key_pairs: Annotated[int, Doc("Key pairs of a user.")] = 100
    quota_server_groups: Annotated[int, Doc("Server groups of a project.")] = 10
    quota_server_group_members: Annotated[int, Doc("Servers of a server group.")] = 10
