// Whose voice a channel has, in words.
import type { Role } from "../types";
import { t } from "./words";

/** "Customer", or "channel 1" where nobody has said whose voice that is. */
export function roleName(role: Role, channel: number): string {
  return role === null ? t("hit.channel", { n: channel }) : t(`calls.role.${role}`);
}
