#pragma once
// What the controller knows, as the admin API says it.

#include <string>

#include "controller/admin/admin_server.h"
#include "controller/api/admin.pb.h"
#include "controller/core/controller.h"

namespace sallyport::controller {

std::string to_json(const google::protobuf::Message& message);
void set_time(google::protobuf::Timestamp& out, Time time);

v1alpha1::GuardView view_of(const Guard& guard);
v1alpha1::TokenView view_of(const JoinToken& token);
v1alpha1::AlarmView view_of(const AlarmRow& alarm);
v1alpha1::AuditView view_of(const AuditRow& row);
v1alpha1::DocumentView view_of(const Document& document);
v1alpha1::EventView view_of(const EventBatch& batch, const v1alpha1::Event& event);
v1alpha1::FunctionView view_of(const Controller::FunctionFigures& function);
v1alpha1::LimitView view_of(const Controller::LimitFigures& limit);
v1alpha1::PutAnswer view_of(const Controller::Put& put);

}  // namespace sallyport::controller
